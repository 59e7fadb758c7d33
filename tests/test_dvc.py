"""dvc.yaml against the code: a stage's deps are what it imports, and the keys that compose writes for it what it reads."""

from __future__ import annotations

import re
import subprocess
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from imports import ROOT, attributes, closure

from pipeline.config import Config, DataConfig
from pipeline.stages.compose import READS

DVC_YAML = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = DVC_YAML["stages"]
SECTIONS = {field.name for field in fields(Config)} - {"paths", "choices"}  # neither decides a result
KEYS = {
    section: {field.name for field in fields(types)}
    for section, types in get_type_hints(Config).items()
    if section in SECTIONS and is_dataclass(types)
}
CONFIG = "pipeline/config"  # a dep as a whole
NAMES = sorted(STAGES)
NOT_IMPORTED = {
    # The command line itself does this stage's work; to the others it only hands the configuration.
    "compose": {"pipeline/cli.py", "pipeline/compose", "pipeline/parent.py"},
}
NOT_READ = {
    "preprocess": {
        "data.path",
        "data.mirror",
        "data.workers",
        "data.limits",
    },  # fetch runs first for another path or mirror; no byte depends on workers and limits
    "fetch": {"data.limits"},
    "train": {"data.source"},  # which is asked for a warning alone; the images are the store's
    "sweep": {"data.split", "data.source"},  # trials always use the holdout split; as train
    "ensemble": {"evaluation.views", "evaluation.batchnorm"},  # members are chosen as they were validated in training
    "evaluate": {
        "ensemble.selection",
        "ensemble.size",
        "ensemble.members",
        "model.context",
    },  # of the ensemble that was made and of the records of nets, not of the configuration
    # Of the record of each net (`pipeline.record.Net`), not of the configuration.
    "report": {f"{section}.{key}" for section in ("model", "recipe") for key in KEYS[section]},
}


def declared_params(stage: str) -> set[str]:
    return set(READS.get(stage, ()))


def sources(stage: str) -> set[Path]:
    files = [ROOT / "pipeline" / "stages" / folder / f"{stage}.py" for folder in ("", "detection")]
    return {path for file in files if file.is_file() for path in closure(file) if path.stat().st_size}


@pytest.mark.parametrize("stage", NAMES)
def test_code_deps_are_the_rooms_and_files_the_stage_imports(stage):
    code = {dep for dep in STAGES[stage]["deps"] if dep.startswith("pipeline/")}
    needed = {room(path) for path in sources(stage)}
    assert code == needed | NOT_IMPORTED.get(stage, set())


def test_training_code_is_no_dependency_of_the_data_stages():
    """Preprocessing takes an hour on ImageNet; a changed schedule must not start it again."""
    for stage in ("fetch", "preprocess"):
        assert not {"pipeline/learn", "pipeline/run", "pipeline/fast"} & set(STAGES[stage]["deps"])


def room(path: Path) -> str:
    """The dep that covers a source file: its package as a whole, a stage and a module at the top by themselves."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts if parts[1] == "stages" or len(parts) == 2 else parts[:2])


def keys_read(stage: str) -> set[str]:
    """Keys such as recipe.lr and seed that the stage's code reads, whole sections where it takes them so."""
    # Only train and sweep call what these packages do with a configuration; others use their small parts.
    trains = stage in ("train", "sweep")
    # Of pretrain, the stages that it runs read configurations of their own, which composed/pretrain.yaml holds beside the
    # keys from which pretraining.py makes them.
    own = ("pretraining.py",) if stage == "pretrain" else ()
    files = [
        path
        for path in sources(stage)
        if (not own or path.name in own)
        and path.parent != ROOT / CONFIG
        and path.name != "record.py"
        and (trains or path.relative_to(ROOT).parts[1] not in ("learn", "run"))
    ]
    names = set().union(*map(attributes, files))
    return {name for owner, name in names if owner == "config" and name in SECTIONS} | {
        f"{owner}.{name}" for owner, name in names if name in KEYS.get(owner, ())
    }


def undeclared(stage: str, declared: set[str]) -> set[str]:
    """Keys that the stage reads and `declared` names neither alone nor by section."""
    read = keys_read(stage) - NOT_READ.get(stage, set())
    sections = {key.split(".")[0] for key in declared}  # enough where code names a section and no key of it
    return {key for key in read if not {key, key.split(".")[0]} & declared and key not in sections}


@pytest.mark.parametrize("stage", [name for name in NAMES if name != "compose"])
def test_params_cover_every_key_the_stage_reads(stage):
    assert not undeclared(stage, declared_params(stage))


def test_a_key_that_is_read_and_not_declared_is_noticed():
    assert undeclared("train", declared_params("train") - {"data.split"}) == {"data.split"}
    assert undeclared("ensemble", declared_params("ensemble") - {"trainer.accelerator"}) >= {"trainer.accelerator"}


@pytest.mark.parametrize("stage", ["fetch", "preprocess"])
def test_data_stages_declare_exactly_the_data_keys_they_read(stage):
    """preprocess's workers and limits are left out: they change no byte of the store."""
    modules = {"fetch": ("sources", "places"), "preprocess": ("preprocess", "convert")}[stage]
    keys = {field.name for field in fields(DataConfig)}
    paths = (*(f"pipeline/data/{module}.py" for module in modules), f"pipeline/stages/{stage}.py")
    text = "\n".join((ROOT / path).read_text() for path in paths)
    read = (set(re.findall(r"\bdata\.(\w+)", text)) & keys) - {"workers", "limits"}
    assert {key.removeprefix("data.") for key in declared_params(stage)} >= read
    assert declared_params(stage) - {"data.name"} <= {f"data.{key}" for key in keys - {"split", "workers", "limits"}}


def test_every_declared_param_is_a_key_of_the_configuration():
    from pipeline.compose import compose
    from pipeline.config import from_dict

    composed = from_dict(compose(ROOT, [])).to_dict()
    for stage in NAMES:
        for key in declared_params(stage):
            node = composed
            for part in key.split("."):
                assert part in node, f"{stage} declares {key}"
                node = node[part]


def test_each_stage_depends_on_its_own_keys_of_the_configuration():
    for stage in set(NAMES) - {"compose"}:
        assert [dep for dep in STAGES[stage]["deps"] if dep.startswith("composed")] == [f"composed/{stage}.yaml"]


def test_what_the_stages_leave_belongs_to_a_data_set():
    for stage in set(NAMES) - {"compose"}:
        assert outs(STAGES[stage]) and all("${data}" in path for path in outs(STAGES[stage]))


def test_each_stage_is_a_verb_of_the_command():
    from pipeline.verbs import VERBS

    assert set(STAGES) <= set(VERBS)
    assert all(stage["cmd"].split()[:4] == ["python", "-m", "pipeline", name] for name, stage in STAGES.items())


def test_the_table_of_experiments_shows_the_errors_on_each_data_set_and_no_hashes():
    """DVC puts the file before the name of a metric that two data sets have."""
    from dvc.repo.experiments.show import _normalize_headers

    pages = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    (dropped,) = set(re.findall(r"dvc exp show .*--drop '(.+?)'", pages))
    files = {f"experiments/{data}/metrics/train.json": ["val_err1"] for data in ("digits", "cifar10")}
    errors = _normalize_headers(files, {"val_err1": 2})
    hashes = [dep.replace("${data}", "digits") for stage in STAGES.values() for dep in stage["deps"] if "/" in dep]
    assert [name for name in (*errors, *hashes) if re.match(dropped, name)] == hashes


def outs(stage: dict[str, Any]) -> list[str]:
    """Paths of what a stage of dvc.yaml leaves, its metrics too."""
    left = [*stage.get("outs", []), *stage.get("metrics", [])]
    return [out if isinstance(out, str) else next(iter(out)) for out in left]


def test_the_artifacts_are_outs_of_stages():
    made = {path for stage in STAGES.values() for path in outs(stage)}
    assert {artifact["path"] for artifact in DVC_YAML["artifacts"].values()} <= made


def committed(name: str) -> str:
    """A file's text in the last commit; "" where it is in none, or git is missing."""
    shown = subprocess.run(["git", "show", f"HEAD:./{name}"], cwd=ROOT, capture_output=True, text=True, check=False)
    return shown.stdout


def test_a_committed_dvc_lock_holds_these_stages_with_these_outs():
    """Its hashes are of the commit that it was made at: `dvc status` names what has changed since, and repro runs that."""
    text, remake = committed("dvc.lock"), "dvc.lock is of another dvc.yaml; `make release` makes it anew"
    if not text:
        pytest.skip("no dvc.lock is committed; `make release` makes it")
    locked, data = yaml.safe_load(text)["stages"], yaml.safe_load(committed("params.yaml"))["data"]
    assert set(locked) == set(STAGES), remake
    for name, stage in STAGES.items():
        assert locked[name]["cmd"] == stage["cmd"], remake
        assert {out["path"] for out in locked[name]["outs"]} == {o.replace("${data}", data) for o in outs(stage)}, (
            remake
        )
