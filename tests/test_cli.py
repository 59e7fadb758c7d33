"""The command line: quick help, one sentence a mistake, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from imports import ROOT

from pipeline.cli import VERBS, main


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from pipeline.cli import main; main(['--help']); "
        "print(sorted({'torch', 'hydra', 'omegaconf', 'ray', 'mlflow', 'numpy', 'yaml', 'pydantic'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"
    assert all(verb in said for verb in VERBS)
    assert "data=cifar10|cifar100|digits" in said


def test_each_verb_has_a_module():
    assert all((ROOT / "pipeline" / "stages" / f"{verb}.py").is_file() for verb in VERBS)


def test_cfg_job_prints_the_composed_configuration(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["train", "data=cifar10", "model.depth=56", "--cfg", "job"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["data"]["name"], printed["model"]["depth"]) == ("cifar10", 56)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "model.depth=21"], "model.depth=21 is not 6n+2"),
        (["train", "--fast"], "unknown option --fast"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml is missing; `pipeline compose` writes it"),
        (["train", "--config", "params.yaml", "seed=1"], "takes no overrides"),
        (["preprocess"], "data"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, sentence, monkeypatch, capsys, workspace):
    root: Path = workspace()
    (root / "data").rename(root / "elsewhere")
    monkeypatch.chdir(root)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"pipeline {arguments[0]}: ") and sentence in said
    assert "Traceback" not in said and len(said.strip().splitlines()) == 1


def test_outside_a_clone_it_says_so(tmp_path, capsys):
    assert main(["train"]) == 2
    assert "no conf/config.yaml in" in capsys.readouterr().err


def test_compose_writes_what_the_stages_read(monkeypatch, workspace):
    root: Path = workspace()
    monkeypatch.chdir(root)
    assert main(["compose", "seed=5"]) == 0
    assert yaml.safe_load((root / "composed.yaml").read_text())["seed"] == 5
