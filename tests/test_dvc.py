"""dvc.yaml against the code: a stage's deps are what it imports, its params what it reads."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from imports import ROOT, closure

from pipeline.config import Config, DataConfig

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
SECTIONS = {field.name for field in fields(Config)} - {"paths"}  # where files lie decides no result
NAMES = sorted(STAGES)
NOT_IMPORTED = {
    # The command line itself does this stage's work; to the others it only hands the configuration.
    "compose": {"pipeline/cli.py", "pipeline/compose.py"},
    "ensemble": {"pipeline/ensemble/model.py"},  # handed to MLflow by its path
}


def declared_params(stage: str) -> set[str]:
    return {key for entry in STAGES[stage].get("params", []) for key in entry["composed.yaml"]}


def sources(stage: str) -> set[Path]:
    return {path for path in closure(ROOT / f"pipeline/stages/{stage}.py") if path.stat().st_size}


@pytest.mark.parametrize("stage", NAMES)
def test_code_deps_are_the_files_the_stage_imports(stage):
    code = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    needed = {str(path.relative_to(ROOT)) for path in sources(stage)}
    assert code == needed | NOT_IMPORTED.get(stage, set())


@pytest.mark.parametrize("stage", [name for name in NAMES if name != "compose"])
def test_params_cover_every_section_the_stage_reads(stage):
    # Only train and sweep call what pipeline/training does with a configuration; others use its small parts.
    trains = stage in ("train", "sweep")
    files = [path for path in sources(stage) if path.name != "config.py" and (trains or path.parent.name != "training")]
    text = "\n".join(path.read_text() for path in files)
    read = set(re.findall(r"\bconfig\.(\w+)", text)) & SECTIONS
    assert {key.split(".")[0] for key in declared_params(stage)} >= read


@pytest.mark.parametrize("stage", ["fetch", "preprocess"])
def test_data_stages_declare_exactly_the_data_keys_they_read(stage):
    """preprocess's workers are left out: they change no byte of the store."""
    module = {"fetch": "sources", "preprocess": "preprocess"}[stage]
    keys = {field.name for field in fields(DataConfig)}
    text = "\n".join(
        (ROOT / path).read_text() for path in (f"pipeline/data/{module}.py", f"pipeline/stages/{stage}.py")
    )
    read = (set(re.findall(r"\bdata\.(\w+)", text)) & keys) - {"workers"}
    assert {key.removeprefix("data.") for key in declared_params(stage)} >= read
    assert declared_params(stage) - {"data.name"} <= {f"data.{key}" for key in keys - {"split", "workers"}}


def test_every_declared_param_is_a_key_of_the_configuration():
    from pipeline.compose import compose

    composed = compose(ROOT, [])
    for stage in NAMES:
        for key in declared_params(stage):
            node = composed
            for part in key.split("."):
                assert part in node, f"{stage} declares {key}"
                node = node[part]


def test_each_stage_is_a_verb_of_the_command():
    from pipeline.cli import VERBS

    assert set(STAGES) <= set(VERBS)
    assert all(stage["cmd"].split()[:2] == ["pipeline", name] for name, stage in STAGES.items())
