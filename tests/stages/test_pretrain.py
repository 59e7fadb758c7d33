"""pretrain: the nets that start.weights=sweep:NAME names are trained, once, and a training starts from them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from processes import Command
from runs import TINY, composed

from pipeline.atomic import read_json, write_json
from pipeline.cli import main
from pipeline.config import Config
from pipeline.data.facts import DECIDING, made_file, require_settings
from pipeline.data.store import open_store
from pipeline.stages import fetch, preprocess
from pipeline.stages.compose import READS
from pipeline.stages.pretrain import require_store
from pipeline.workspace import Workspace

STROKES = """# @package _global_
defaults: [digits, _self_]
data: {source: digits, num_test: 960, num_val: 287}
model: {depth: 8}
recipe: {max_steps: 20}
sweep: {space: [{model.residual: [true, false]}]}
ensemble: {selection: top_k}
"""
FROM_STROKES = (*TINY, "start.weights=sweep:strokes")


@pytest.fixture
def root(workspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    made: Path = workspace()
    (made / "conf/data/strokes.yaml").write_text(STROKES)
    monkeypatch.chdir(made)
    return made


def runs(root: Path) -> list[dict]:
    return read_json(root / "experiments/digits/pretrained.json")["runs"]


def began(root: Path) -> int:
    journals = [
        path.read_text() for path in (root / "runs").glob("*/journal.jsonl") if "sweep-" not in path.parent.name
    ]
    return sum(text.count('"event": "begin"') for text in journals)


@pytest.mark.parametrize("weights", ["", "run:0123456789ab"])
def test_without_a_sweep_there_is_nothing_to_train(weights: str, root: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["pretrain", f"start.weights={weights}"]) == 0
    assert "names no sweep, so there is nothing to train" in capsys.readouterr().out and runs(root) == []


def test_a_training_starts_from_the_net_of_its_own_wiring_which_is_trained_once(root: Path):
    missing = Command(root, "train", *FROM_STROKES, "model.residual=false")
    assert missing.wait() == 2 and "`pipeline pretrain" in missing.output
    Command(root, "pretrain", *FROM_STROKES).succeed()
    made = {run["net"]: run for run in runs(root)}
    assert made.keys() == {"ResNet-8", "plain-8"} and made["plain-8"]["data"] == "strokes"
    assert all(0 <= run["val_err1"] < 1 and run["seed"] == 0 for run in made.values()) and began(root) == 2
    before = runs(root)
    Command(root, "pretrain", *FROM_STROKES).succeed()
    assert runs(root) == before and began(root) == 2
    Command(root, "train", *FROM_STROKES, "model.residual=false").succeed()
    assert read_json(root / "experiments/digits/train.json")["start"] == "one of 2 runs"
    another = (
        root / "experiments/strokes/leaderboard.json"
    )  # of a later sweep, which is not what DVC takes a training to start from
    write_json(another, read_json(another) | {"trials": []})
    Command(root, "train", *FROM_STROKES, "model.residual=false").succeed()


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (
            "sweep:strikes",
            "conf/data/strikes.yaml alone: data=strikes: there is no conf/data/strikes.yaml; choose one of",
        ),
        ("sweep:imagenet", "takes the values of conf/data/imagenet.yaml alone: data.source=imagenet without data.path"),
        (
            "sweep:digits",
            "start.weights=sweep:digits with data.name=digits; a training starts from the sweep of another",
        ),
        ("sweep:", "start.weights=sweep:; it takes the name of a data set, for example sweep:digit_objects"),
        ("sweep:second", "conf/data/second.yaml starts from a sweep itself; run `pipeline pretrain data=second`"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_starts(
    weights: str, sentence: str, root: Path, capsys: pytest.CaptureFixture[str]
):
    (root / "conf/data/second.yaml").write_text(f"{STROKES}start: {{weights: sweep:strokes}}\n")
    for verb in ("compose", "pretrain"):
        assert main([verb, f"start.weights={weights}"]) == 2
        assert sentence in capsys.readouterr().err


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two folders, one and other, of the same classes and as many images."""
    draw = np.random.default_rng(0)
    for at in range(40):
        path = tmp_path / "images" / ("one", "other")[at % 2] / ("cat", "dog")[at // 2 % 2] / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return tmp_path / "images"


OWN = (
    "data=folder",
    "data.name=images",
    "data.image_size=8",
    "data.num_val=4",
    "data.num_test=4",
    "recipe=small_quick",
)


def of_folder(root: Path, images: Path, *overrides: str) -> Config:
    config: Config = composed(root, *OWN, f"data.path={images}/one", *overrides)
    return config


def test_a_training_does_not_start_on_the_images_of_another_place_or_with_other_labels(
    root: Path, images: Path, capsys: pytest.CaptureFixture[str]
):
    one, other = ([*OWN, f"data.path={images}/{name}"] for name in ("one", "other"))
    assert main(["fetch", *one]) == main(["preprocess", *one]) == 0
    assert "data/store/images: 12 training, 4 validation and 4 test images, 2 classes\n" in capsys.readouterr().out
    (images / "other" / "cat" / "page.png").write_bytes(b"<html>")
    assert (main(["fetch", *other]), main(["preprocess", *other])) == (0, 2)
    store = open_store(root / "data/store/images")  # the former one
    relative = os.path.relpath(images / "one", root)
    require_settings(store, of_folder(root, images, f"data.path={relative}", "data.mirror=/m").data)
    for words, key, value in (
        (other, f"data.path={images}/other", f"data.path={images}/one"),
        ([*one, "data.labels=names.csv"], "data.labels=names.csv", "data.labels=''"),
    ):
        capsys.readouterr()
        assert main(["train", *words]) == 2
        printed = capsys.readouterr().err
        assert f"{key}, but the store of images was made with {value}; run `" in printed
        assert f"`{shlex.join(['pipeline', 'preprocess', *words])}`" in printed


def test_a_store_is_made_anew_for_each_value_that_decides_it_and_for_no_other(root: Path, images: Path):
    workspace = Workspace(root, "images")

    def made(*overrides: str) -> int:
        """When the store was made, in ns."""
        require_store(of_folder(root, images, *overrides), workspace)
        return (workspace.store("images") / "manifest.json").stat().st_mtime_ns

    before = made()
    assert made("data.workers=1") == made(f"data.mirror={images}") == made("data.skip_corrupt=true") == made() == before
    for change in (f"data.path={images}/other", "data.num_test=0", "data.layout=classes", "data.num_val=0"):
        now = made(change)
        assert now > before and made(change) == now, change
        before = now


def test_a_store_that_the_user_made_counts_unless_it_was_made_of_other_values(root: Path, images: Path):
    workspace = Workspace(root, "images")
    for number in (4, 8):  # the second replaces the one that require_store knows
        config = of_folder(root, images, f"data.num_test={number}")
        fetch.run(config, workspace)
        preprocess.run(config, workspace)
        made = (workspace.store("images") / "manifest.json").stat().st_mtime_ns
        require_store(config, workspace)
        made_file(workspace.store("images")).unlink()  # which copies of a store lack
        require_store(config, workspace)
        assert (workspace.store("images") / "manifest.json").stat().st_mtime_ns == made
    kept = open_store(workspace.store("images")).manifest
    for change in ("data.num_val=6", f"data.path={images}/other"):
        fetch.run(of_folder(root, images, change), workspace)
        preprocess.run(of_folder(root, images, "data.num_test=8", change), workspace)
        assert open_store(workspace.store("images")).manifest != kept
        require_store(config, workspace)
        assert open_store(workspace.store("images")).manifest == kept


def test_the_values_that_decide_a_store_are_those_that_its_stages_read():
    read = {*READS["fetch"], *READS["preprocess"]} - {"data.name", "data.mirror"}
    assert {f"data.{key}" for key in DECIDING} == read


def test_compose_writes_what_decides_the_pretrained_nets(root: Path):
    def composed(*overrides: str) -> dict:
        assert main(["compose", *overrides]) == 0
        return yaml.safe_load((root / "composed/pretrain.yaml").read_text())

    assert composed()["sweeps"] == []
    first = composed(
        "start.weights=sweep:strokes", "trainer.accelerator=cpu", "cluster.max_concurrent=1", "recipe.lr=0.3"
    )
    (theirs,) = first["sweeps"]
    assert theirs["data.name"] == "strokes" and theirs["recipe"]["max_steps"] == 20 and theirs["recipe"]["lr"] != 0.3
    assert theirs["trainer"]["accelerator"] == "cpu" and theirs["cluster"]["max_concurrent"] == 1
    path = root / "conf/data/strokes.yaml"
    path.write_text(path.read_text().replace("max_steps: 20", "max_steps: 24"))
    again = composed(
        "start.weights=sweep:strokes", "trainer.accelerator=cpu", "cluster.max_concurrent=1", "recipe.lr=0.3"
    )
    assert again["sweeps"][0]["recipe"].pop("max_steps") == 24 and theirs["recipe"].pop("max_steps") == 20
    assert again == first


def test_a_sweep_that_only_the_space_names_is_trained_too(root: Path):
    assert main(["compose", "sweep.space={start.weights:['',sweep:strokes]}"]) == 0
    assert len(yaml.safe_load((root / "composed/pretrain.yaml").read_text())["sweeps"]) == 1
