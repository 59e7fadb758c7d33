"""docker/make-secrets.sh: private, kept, and readable by the programs that they are for."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from compose_command import HARD, PUBLIC, compose
from imports import ROOT


def test_every_secret_is_made_private_and_ignored_by_git(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLIC_HOST", "mlflow.example.org")
    declared = json.loads(compose(*PUBLIC, "config", "--format", "json").stdout)["secrets"]
    for secret in declared.values():
        path = secrets / Path(secret["file"]).relative_to(ROOT / "docker" / "secrets")
        assert path.stat().st_size > 0 and stat.S_IMODE(path.stat().st_mode) == 0o600, path
    paths = [".env", *(f"docker/secrets/{path.name}" for path in secrets.iterdir())]
    ignored = subprocess.run(["git", "check-ignore", *paths], check=False, cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout.split() == paths


def test_secrets_stay_when_made_again_and_agree(secrets: Path) -> None:
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    subprocess.run([secrets.parent / "make-secrets.sh"], check=True)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before

    assert before["pgpass"] == "postgres:5432:mlflow:mlflow:" + re.sub(r"([\\:])", r"\\\1", HARD) + "\n"
    credentials = configparser.RawConfigParser()  # as boto's
    credentials.read_string(before["s3_credentials"])
    (pair,) = json.loads(before["s3_identities"])["identities"][0]["credentials"]
    assert list(pair.values()) == list(credentials["default"].values()) == ["mlflow", HARD]
    for name, key in (("mlflow_auth", "admin_password"), ("mlflow_credentials", "mlflow_tracking_password")):
        parser = configparser.ConfigParser()  # as MLflow's
        parser.read_string(before[name])
        assert parser["mlflow"][key] == HARD
    assert (secrets.parents[1] / ".env").read_text() == f"PIPELINE_UID={os.getuid()}\nPIPELINE_GID={os.getgid()}\n"


@pytest.mark.parametrize("text", ["two\nlines\n", " space", "tab\there", "\xe4"])
def test_a_secret_that_its_readers_would_misread_is_refused(secrets: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "docker" / "secrets").mkdir(parents=True)
    shutil.copy(secrets.parent / "make-secrets.sh", tmp_path / "docker")
    (tmp_path / "docker" / "secrets" / "postgres_password").write_text(text)
    done = subprocess.run([tmp_path / "docker" / "make-secrets.sh"], check=False, capture_output=True, text=True)
    assert done.returncode == 2 and "one line of printable ASCII" in done.stderr


def test_what_env_holds_stays_though_its_last_line_has_no_end(secrets: Path, tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    shutil.copy(secrets.parent / "make-secrets.sh", tmp_path / "docker")
    (tmp_path / ".env").write_text("NODE_MEMORY=7g")
    subprocess.run([tmp_path / "docker" / "make-secrets.sh"], check=True)
    added = f"PIPELINE_UID={os.getuid()}\nPIPELINE_GID={os.getgid()}\n"
    assert (tmp_path / ".env").read_text() == f"NODE_MEMORY=7g\n{added}"


def test_a_secret_that_is_a_link_is_refused(secrets: Path, tmp_path: Path) -> None:
    (tmp_path / "docker" / "secrets").mkdir(parents=True)
    shutil.copy(secrets.parent / "make-secrets.sh", tmp_path / "docker")
    (tmp_path / "docker" / "secrets" / "ray_token").symlink_to(secrets / "ray_token")
    done = subprocess.run([tmp_path / "docker" / "make-secrets.sh"], check=False, capture_output=True, text=True)
    assert done.returncode == 2 and "no link" in done.stderr
