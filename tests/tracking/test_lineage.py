from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from pathlib import Path

import pytest

from pipeline.tracking.lineage import lineage


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text("x = 1\n")
    git(tmp_path, "init", "--quiet")
    committed(tmp_path, "code.py")
    return tmp_path


def committed(root: Path, name: str) -> str:
    """The commit that adds the file."""
    git(root, "add", name)
    git(root, "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--message", name)
    return git(root, "rev-parse", "HEAD")


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def test_tags_name_commit_changes_dvc_lock_and_host(repository: Path) -> None:
    (repository / "notes.txt").write_text("new")  # untracked, so no change
    tags, commit = lineage(repository), git(repository, "rev-parse", "HEAD")
    assert tags["mlflow.source.git.commit"] == tags["pipeline.commit"] == commit
    assert tags["pipeline.host"] == platform.node() and tags["pipeline.hardware"].endswith("cores")
    assert "pipeline.dvc_lock" not in tags
    (repository / "dvc.lock").write_text("schema: '2.0'\n")
    commit = committed(repository, "dvc.lock")
    (repository / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")  # as the stages before a training write it
    assert lineage(repository)["pipeline.commit"] == commit
    (repository / "code.py").write_text("x = 2\n")
    (repository / "dvc.lock").write_bytes(b"schema: '2.0'\n")
    tags = lineage(repository)
    assert tags["pipeline.commit"] == f"{commit}+dirty"
    assert tags["pipeline.dvc_lock"] == hashlib.sha256(b"schema: '2.0'\n").hexdigest()


def test_params_yaml_is_no_code(repository: Path) -> None:
    (repository / "params.yaml").write_text("seed: 0\n")
    commit = committed(repository, "params.yaml")
    (repository / "params.yaml").write_text("seed: 1\n")  # as `dvc exp run -S seed=1` writes it
    assert lineage(repository)["pipeline.commit"] == commit
    (repository / "code.py").write_text("x = 2\n")
    assert lineage(repository)["pipeline.commit"] == f"{commit}+dirty"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_the_commit_is_named_in_another_users_checkout_too(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 65534, 65534)
    assert lineage(repository)["pipeline.commit"] == commit


def test_without_git_or_a_repository_the_other_tags_remain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "pipeline.commit" not in lineage(tmp_path) and "pipeline.host" in lineage(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert "pipeline.commit" not in lineage(tmp_path) and "pipeline.python" in lineage(tmp_path)
