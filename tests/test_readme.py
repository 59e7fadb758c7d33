"""What the README tells people to type exists and is understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from imports import ROOT

README = (ROOT / "README.md").read_text()
CODE = README.replace("\\\n", " ")  # a command on two lines is one
COMMANDS = [line.strip().split("  #")[0] for line in CODE.splitlines() if line.startswith("    ")]
# `pipeline ...`, or whatever starts `-m pipeline ...`
PIPELINE = [shlex.split(c) for line in COMMANDS for c in re.findall(r"(?:^|&& |-m )(pipeline [^&]+)", line)]
EXPERIMENTS = [shlex.split(part) for line in COMMANDS for part in line.split(";") if part.startswith("dvc exp run")]


def overrides(words: list[str]) -> list[str]:
    return [word for word in words if "=" in word and not word.startswith("-")]


def test_its_first_commands_are_the_two_that_do_everything():
    assert [line.split()[:2] for line in COMMANDS[:2]] == [["make", "repro"], ["make", "test"]]


def test_its_make_targets_exist():
    targets = set(" ".join(re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), re.M)).split())
    assert set(re.findall(r"(?:`|^    )make ([a-z][\w-]*)", README, re.M)) <= targets


@pytest.mark.parametrize("words", PIPELINE, ids=" ".join)
def test_its_pipeline_commands_compose(words, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    from pipeline.cli import VERBS
    from pipeline.compose import compose
    from pipeline.config import from_dict

    assert words[1] in VERBS
    from_dict(compose(ROOT, overrides(words)))


@pytest.mark.parametrize("words", EXPERIMENTS, ids=" ".join)
def test_its_experiments_are_choices_that_compose(words, tmp_path):
    from pipeline.compose import compose
    from pipeline.config import from_dict

    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key, value in (word.split("=", 1) for word in overrides(words)):
        *parents, leaf = key.lstrip("+").split(".")
        assert parents or leaf in params, f"-S {key} needs a + that the README forgets"
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = yaml.safe_load(value)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    from_dict(compose(tmp_path, []))


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\b(?:deploy|docs|docker|results)/[\w./-]*", README))))
def test_files_it_names_exist(path: str):
    made_by_the_user = path.startswith("docker/secrets")
    assert made_by_the_user or (ROOT / path).exists(), Path(path)
