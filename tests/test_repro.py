"""`dvc repro` from a clone: the whole experiment, then what each kind of change makes it do again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from imports import ROOT

from pipeline.atomic import read_json

pytestmark = pytest.mark.slow

OUT = Path("experiments/digits")
SMALL = {"model.depth": 8, "recipe.max_steps": 170, "sweep.space": {"model.depth": [8], "recipe.lr": [0.1, 0.05]}}


def dvc(root: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(root), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["dvc", *arguments],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def changed(root: Path) -> set[str]:
    """Stages that DVC would run again for a change of their own inputs, once compose has run."""
    dvc(root, "repro", "compose")
    return set(re.findall(r"^(\w+):$", dvc(root, "status"), re.M))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the working tree, reproduced once."""
    root = tmp_path_factory.mktemp("clone") / "repository"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["set"] = {}
    for key, value in SMALL.items():
        section, leaf = key.split(".")
        params["set"].setdefault(section, {})[leaf] = value
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    dvc(root, "repro")
    return root


def test_the_published_result_has_its_members_and_its_ensemble(done):
    result = read_json(done / OUT / "evaluate.json")
    for member in result["members"]:
        assert {"run_id", "model", "val_err1", "test_err1", "test_err5"} <= member.keys()
        assert 0 <= member["test_err5"] <= member["test_err1"] < 0.2
    low, high = result["ensemble"]["ci95"]
    assert low <= result["ensemble"]["test_err1"] <= high
    assert (done / OUT / "report" / "index.html").stat().st_size > 10_000


def test_a_second_repro_runs_nothing_and_is_quick(done):
    start = time.monotonic()
    assert "Running stage" not in dvc(done, "repro")
    assert time.monotonic() - start < 10


def test_a_comment_in_conf_composes_and_no_more(done):
    path = done / "conf" / "recipe" / "digits.yaml"
    path.write_text(path.read_text() + "# nothing new\n")
    assert re.findall(r"Running stage '(\w+)'", dvc(done, "repro")) == ["compose"]


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("conf/recipe/digits.yaml", "lr: 0.1", "lr: 0.2", {"sweep", "train"}),
        ("conf/ensemble/best_per_depth.yaml", "size: 6", "size: 5", {"ensemble"}),
        ("conf/data/digits.yaml", "num_val: 287", "num_val: 288", {"preprocess"}),
        ("pipeline/report/theme.py", '"""', '"""Again. ', {"report"}),
        ("pipeline/data/archives.py", '"""', '"""Again. ', {"fetch", "preprocess"}),
        ("pipeline/tuning/space.py", '"""', '"""Again. ', {"sweep"}),
    ],
)
def test_a_change_reaches_exactly_the_stages_that_read_it(done, file, old, new, stages):
    path = done / file
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))
    try:
        assert changed(done) == stages
    finally:
        path.write_text(before)
        dvc(done, "repro", "compose")


def test_experiments_choose_without_editing_a_file_and_are_compared(done):
    dvc(done, "exp", "run", "-S", "ensemble=top_k", "-S", "++set.seed=1", "-S", "++set.ensemble.size=1")
    assert read_json(done / OUT / "ensemble" / "members.json")["selection"] == "top_k"
    assert "seed" in dvc(done, "params", "diff", "--targets", "composed.yaml", "params.yaml")
    assert "ensemble.test_err1" in dvc(done, "exp", "show", "--md")


def test_an_experiment_in_a_temporary_copy_keeps_its_runs_in_the_repository(done):
    before = {path.name for path in (done / "runs").iterdir()}
    dvc(done, "exp", "run", "--temp", "-S", "++set.seed=2")
    assert {path.name for path in (done / "runs").iterdir()} > before
