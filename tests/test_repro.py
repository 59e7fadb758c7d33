"""`dvc repro` from a clone: the whole experiment, then what each kind of change makes it do again."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from imports import ROOT
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.atomic import read_json
from pipeline.config import leaves

pytestmark = pytest.mark.slow

OUT = Path("experiments/digits")
AFTER_DATA = ("pretrain", "sweep", "train", "ensemble", "evaluate", "report")  # import pipeline.data and pipeline.learn
SMALL = {"model.depth": 8, "recipe.max_steps": 170, "sweep.space": {"model.depth": [8], "recipe.lr": [0.1, 0.05]}}
METRICS = {
    *("val_err1", "steps", "seconds", "run.test_err1", "gain.test_err1"),
    *("ensemble.val_err1", "ensemble.test_err1", "ensemble.test_err5"),
}
ABOUT = ("Experiment", "rev", "typ", "Created", "parent", "State", "Executor")


def dvc(root: Path, *arguments: str, code: int = 0) -> str:
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
    assert done.returncode == code, done.stdout
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
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    commit(root)
    dvc(root, "repro")
    commit(root)  # with dvc.lock, to which `dvc params diff` compares
    return root


def commit(root: Path) -> None:
    for command in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=root, check=True)


def test_the_published_result_has_its_members_and_its_ensemble(done):
    result = read_json(done / OUT / "evaluate.json")
    for member in result["members"]:
        assert {"run_id", "model", "val_err1", "test_err1", "test_err5"} <= member.keys()
        assert 0 <= member["test_err5"] <= member["test_err1"] < 0.2
    low, high = result["ensemble"]["ci95"]
    assert low <= result["ensemble"]["test_err1"] <= high
    assert (done / OUT / "report" / "index.html").stat().st_size > 10_000


def test_a_second_repro_runs_nothing(done):
    assert "Running stage" not in dvc(done, "repro")


def test_a_second_clone_pulls_the_results_and_trains_nothing(done, tmp_path):
    remote, clone = tmp_path / "remote", tmp_path / "clone"
    storage = ("remote", "add", "--local", "--default", "storage", str(remote))
    dvc(done, *storage)
    dvc(done, "push")
    subprocess.run(["git", "clone", "-q", str(done), str(clone)], check=True)
    dvc(clone, *storage)
    # Without what is stored, the stages before training make the same bytes, and dvc.lock stays as it is.
    assert re.findall(r"Running stage '(\w+)'", dvc(clone, "repro", "preprocess")) == ["compose", "fetch", "preprocess"]
    assert not subprocess.check_output(["git", "status", "--porcelain"], cwd=clone, text=True)
    dvc(clone, "pull")
    assert "up to date" in dvc(clone, "status") and "Running stage" not in dvc(clone, "repro")
    assert not (clone / "runs").exists()
    files = [path.relative_to(done) for path in (done / OUT).rglob("*") if path.is_file() and path.name != ".gitignore"]
    assert {OUT / "report/index.html", OUT / "ensemble/members.json", OUT / "metrics/evaluate.json"} < set(files)
    assert all((clone / file).read_bytes() == (done / file).read_bytes() for file in files)
    tag = [
        "git",
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@t",
        "tag",
        "--annotate",
        "ensemble@v0.1.0",
        "--message",
        "one",
    ]
    subprocess.run(tag, cwd=clone, check=True)  # without which no artifact has a version
    dvc(tmp_path, "artifacts", "get", str(clone), "ensemble", "--out", "ensemble")
    assert (tmp_path / "ensemble" / "members.json").read_bytes() == (done / OUT / "ensemble/members.json").read_bytes()


def test_a_comment_in_conf_composes_and_no_more(done):
    path = done / "conf" / "recipe" / "digits.yaml"
    path.write_text(path.read_text() + "# nothing new\n")
    assert re.findall(r"Running stage '(\w+)'", dvc(done, "repro")) == ["compose"]


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("conf/recipe/digits.yaml", "lr: 0.1", "lr: 0.2", {"sweep", "train"}),
        ("conf/data/digits.yaml", "deepest_twice", "top_k", {"ensemble"}),
        ("conf/data/digits.yaml", "num_val: 150", "num_val: 151", {"preprocess"}),
        ("pipeline/report/theme.py", '"""', '"""Again. ', {"report"}),
        ("pipeline/learn/training/schedule.py", '"""', '"""Again. ', {*AFTER_DATA}),
        ("pipeline/data/archives.py", '"""', '"""Again. ', {"fetch", "preprocess", *AFTER_DATA}),
        ("pipeline/tuning/space.py", '"""', '"""Again. ', {"pretrain", "sweep", "train"}),
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
    words = ("ensemble.selection=top_k", "seed=1", "ensemble.size=1", "recipe.lr=0.2", "++set.recipe.momentum=0.8")
    dvc(done, "exp", "run", *(part for word in words for part in ("-S", word)))
    assert read_json(done / OUT / "ensemble" / "members.json")["selection"] == "top_k"
    changes = json.loads(dvc(done, "params", "diff", "--json", "--targets", "composed.yaml", "params.yaml"))
    assert changes["composed.yaml"]["recipe.lr"] == {"old": 0.1, "new": 0.2, "diff": 0.1}
    assert changes["composed.yaml"]["seed"] == {"old": 0, "new": 1, "diff": 1}
    assert changes["params.yaml"]["recipe.lr"]["new"] == 0.2
    errors = json.loads(dvc(done, "metrics", "diff", "--json"))
    values = {name: change for file in errors.values() for name, change in file.items()}
    assert {"old", "new", "diff"} == set(values["run.test_err1"]) == set(values["ensemble.test_err1"])
    # As docs/dvc.md has it; without --drop, DVC adds a column of hashes for each dependency.
    table = dvc(done, "exp", "show", "--csv", "--only-changed", "--drop", "[^:]*/[^:]*$")
    header, *rows = csv.reader(table.splitlines())
    params = dict(leaves(yaml.safe_load((done / "params.yaml").read_text())))
    assert {"recipe.lr", "seed", "set.recipe.momentum"} <= set(header) & set(params)
    assert METRICS & set(header) >= {"val_err1", "ensemble.test_err1", "run.test_err1"}
    assert set(header) <= {*ABOUT, *METRICS, *params, "conf"}
    assert all(re.fullmatch(r"[\d.e-]*", row[header.index(name)]) for row in rows for name in METRICS & set(header))


def test_a_choice_that_drops_a_value_is_refused_and_the_suggested_spelling_mends_params_yaml(done):
    params = (done / "params.yaml").read_text()
    output = dvc(done, "exp", "run", "-S", "recipe.lr=0.2", "-S", "recipe=cifar_quick", code=255)
    words = re.search(r"recipe=cifar_quick drops recipe\.lr=0\.2, set before it; write (.*)", output)[1]
    dvc(done, "exp", "run", *words.split(), "compose")
    recipe = yaml.safe_load((done / "composed.yaml").read_text())["recipe"]
    assert (recipe["lr"], recipe["nesterov"]) == (0.2, True)
    assert "Could not override 'recipe.lr'" in dvc(
        done, "exp", "run", "-S", "recipe=cifar_quick", "-S", "recipe.lr=0.2", code=255
    )  # DVC's own refusal of the other order, which changes nothing
    (done / "params.yaml").write_text(params)
    dvc(done, "repro", "compose")


def test_an_experiment_in_a_temporary_copy_keeps_its_runs_in_the_repository(done):
    before = {path.name for path in (done / "runs").iterdir()}
    dvc(done, "exp", "run", "--temp", "-S", "++set.seed=2")
    assert {path.name for path in (done / "runs").iterdir()} > before


def test_an_experiment_in_a_copy_runs_the_code_of_the_copy(done, tmp_path):
    path, ran = done / "pipeline" / "stages" / "compose.py", tmp_path / "ran"
    before = path.read_text()
    path.write_text(f"{before}\n\nwith open({str(ran)!r}, 'w') as stream:\n    stream.write(__file__)\n")
    try:
        dvc(done, "exp", "run", "--temp", "compose")
    finally:
        path.write_text(before)
    assert done / ".dvc" / "tmp" / "exps" in Path(ran.read_text()).parents


def test_another_data_set_leaves_the_first_ones_results_alone(done, tmp_path):
    before = {path: path.read_bytes() for path in (done / OUT).rglob("*") if path.is_file()}
    images = load_digits().images
    for index, image in enumerate(images[:400]):
        folder = tmp_path / "pngs" / ("train" if index < 300 else "test") / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype("uint8")).save(folder / f"{index}.png")
    values = ["data.image_size=8", "data.num_val=50", "model.depth=8", "recipe.max_steps=20", "recipe.batch_size=32"]
    for verb in ("fetch", "preprocess", "train", "ensemble", "evaluate", "report"):
        words = [verb, "data=folder", f"data.path={tmp_path / 'pngs'}", *values, "trainer.threads=1"]
        command = [sys.executable, "-m", "pipeline", *words]
        ended = subprocess.run(command, cwd=done, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert read_json(done / "experiments" / "pngs" / "evaluate.json")["data"]["name"] == "pngs"
    assert before == {path: path.read_bytes() for path in (done / OUT).rglob("*") if path.is_file()}
