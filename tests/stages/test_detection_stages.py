"""A user's photographs with boxes, from their folder to drawn predictions: every stage on real parts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from imports import ROOT
from PIL import Image
from runs import composed

from pipeline.atomic import read_json
from pipeline.cli import main
from pipeline.data.boxes import BoxTable
from pipeline.data.store import Store, open_store
from pipeline.detection.detect import all_scenes
from pipeline.detection.joint import BASELINE, Manner
from pipeline.evaluation.detection import Detections
from pipeline.report.published import BEGIN, END
from pipeline.stages import summary
from pipeline.stages.detection import evaluate
from pipeline.stages.detection.evaluate import show
from pipeline.tracking.location import client, locate
from pipeline.workspace import Workspace

NAME, COLOURS = "walls", {"brick": (220, 60, 40), "moss": (40, 200, 60)}
SPLITS = {"train": 8, "valid": 4, "test": 4}
STEPS = 4
QUICK = (
    *("data=boxes", "start.weights=''", "model.backbone=resnet8", "model.anchor=8", "trainer.accelerator=cpu"),
    *("trainer.threads=1", "trainer.val_every_epochs=1", f"recipe.max_steps={STEPS}", "recipe.milestones=[]"),
    *("recipe.batch_size=4", "recipe.rois=16", "recipe.augment.test_side=48", "evaluation.runs=members"),
    "ensemble.selection=top_k",
    "tracking.system_metrics_every_s=0",
)


def photographs(folder: Path) -> Path:
    """Landscape and portrait JPEGs of dim noise with bright rectangles, as Roboflow exports them.

    In each split, one image has no object, one a crowd, and one a box that sticks out.
    """
    rng = np.random.default_rng(0)
    for split, count in SPLITS.items():
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for at in range(count):
            width, height = (80, 60) if at % 2 else (60, 90)
            pixels = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
            for label, colour in enumerate(COLOURS.values() if at else ()):  # the first image stays empty
                left, top = (int(place) for place in rng.integers(0, (width - 32, height - 32)))
                pixels[top : top + 30, left : left + 30] = colour
                box = [left, top, width if (at, label) == (1, 0) else 30, 30]
                crowd = int((at, label) == (2, 1))
                annotations.append({"image_id": at, "category_id": label + 1, "bbox": box, "iscrowd": crowd})
            name = f"photo {at} ü.jpg"
            Image.fromarray(pixels).save(folder / split / name)
            images.append({"id": at, "file_name": name, "width": width, "height": height})
        categories = [{"id": at, "name": name} for at, name in enumerate(("walls", *COLOURS))]
        numbered = [{"id": at, **row} for at, row in enumerate(annotations)]
        document = {"images": images, "annotations": numbered, "categories": categories}
        (folder / split / "_annotations.coco.json").write_text(json.dumps(document))
    return folder


class Walk(NamedTuple):
    """What the stages left behind, and what they printed."""

    workspace: Workspace
    photographs: Path
    words: tuple[str, ...]  # overrides of every command
    before: str  # the ensemble's card before evaluation

    def run(self, *words: str) -> int:
        return main([*words, *self.words])


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Walk:
    """Fails where a stage before `evaluate` opens test images or their boxes."""
    root = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "conf", root / "conf")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root)
    (root / "mlruns").mkdir()
    shutil.copy(mlflow_database, root / "mlruns" / "mlflow.db")
    workspace, folder = Workspace(root, NAME), photographs(root / NAME)
    made = Walk(workspace, folder, (f"data.path={folder}", *QUICK), "")
    opened: list[str] = []
    images, boxes = Store.test, BoxTable.__init__

    def test(store: Store) -> Any:
        opened.append("images")
        return images(store)

    def init(table: BoxTable, path: Path, split: str) -> None:
        opened.extend(["boxes"] if split == "test" else [])
        boxes(table, path, split)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert made.run("fetch") == made.run("preprocess") == 0
        patch.setattr(Store, "test", test)
        patch.setattr(BoxTable, "__init__", init)
        assert made.run("train", "seed=1") == made.run("train") == made.run("ensemble") == 0
        assert not opened
        before = (workspace.ensemble / "card.md").read_text()
        assert made.run("evaluate") == made.run("report") == 0
        assert set(opened) == {"images", "boxes"}
    return made._replace(before=before)


def test_test_images_are_opened_by_evaluation_alone(walk: Walk) -> None:
    assert "Test images have not been opened yet" in walk.before
    evaluated = read_json(walk.workspace.result("evaluate"))
    assert (evaluated["task"], evaluated["data"]["num_test"]) == ("detection", SPLITS["test"])
    assert evaluated["classes"] == [*COLOURS]  # the supercategory has no boxes
    assert evaluated["ensemble"]["size"] == len(evaluated["members"]) == 2
    assert 0 <= evaluated["ensemble"]["test_err1"] <= 1


SCALES = (36, 60)
MISSED = {  # by the manner, of the images that show objects
    Manner(refine=True, scales=SCALES): 0,
    Manner(refine=True): 1,
    Manner(scales=SCALES): 2,
    BASELINE: 3,
}


def test_each_improvement_is_measured_against_the_ensemble_without_any(
    walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a copy of the workspace. The nets, of four steps, look at the images, but the objects stand in for what they find."""
    workspace = Workspace(shutil.copytree(walk.workspace.root, tmp_path / "copy"), NAME)
    store, usual = open_store(workspace.store(NAME)), evaluate.detect
    scenes = all_scenes(store, store.test())
    busy = [at for at, boxes in enumerate(scenes.truth) if len(boxes.labels)]

    def exact(manner: Manner) -> list[Detections]:
        found = []
        for at, (_, corners, labels, _) in enumerate(scenes.truth):
            kept = slice(0 if at in busy[: MISSED[manner]] else None)
            found.append(Detections(corners[kept], np.ones(len(labels), np.float32)[kept], labels[kept]))
        return found

    def detected(*arguments: Any) -> list[Detections]:
        assert len(usual(*arguments)) == SPLITS["test"]
        return exact(arguments[-1])

    monkeypatch.chdir(workspace.root)
    monkeypatch.setattr(evaluate, "detect", detected)
    monkeypatch.setattr(evaluate, "publish", lambda *_: None)
    assert walk.run("evaluate", "evaluation.refine=true", f"evaluation.scales=[{SCALES[0]},{SCALES[1]}]") == 0
    result = read_json(workspace.result("evaluate"))
    assert (result["data"]["refine"], result["data"]["scales"]) == (True, [*SCALES])
    both, refined, scaled, baseline = (scenes.matches(exact(manner)).scores().ap for manner in MISSED)
    assert both > refined > scaled > baseline
    assert [net["scores"]["ap"] for net in (result["ensemble"], *result["members"])] == [both] * 3
    rows = {row["key"]: row["ap"] for row in result["improvements"]}
    assert rows["evaluation.refine"] == pytest.approx([baseline, refined])
    assert rows["evaluation.scales"] == pytest.approx([baseline, scaled]) and len(rows) == 2


def test_every_file_that_dvc_expects_is_there(walk: Walk) -> None:
    stages = yaml.safe_load((walk.workspace.root / "dvc.yaml").read_text())["stages"]
    named = [
        out if isinstance(out, str) else next(iter(out))
        for stage in ("fetch", "preprocess", "train", "ensemble", "evaluate", "report")
        for out in [*stages[stage]["outs"], *stages[stage].get("metrics", [])]
    ]
    assert len(named) > 10
    missing = [out for name in named if not (walk.workspace.root / (out := name.replace("${data}", NAME))).exists()]
    assert not missing


def test_mlflow_has_the_ap_of_validation_and_of_the_test(walk: Walk) -> None:
    config = composed(walk.workspace.root, *walk.words)
    mlflow = client(locate(config.tracking.uri, config.paths.mlruns))
    experiment = mlflow.get_experiment_by_name(NAME)
    runs = {run.info.run_name: run.data for run in mlflow.search_runs([experiment.experiment_id])}
    members = read_json(walk.workspace.result("evaluate"))["members"]
    trained = [run for run in runs.values() if "val/ap" in run.metrics]
    assert len(trained) == len(members) == 2
    assert all({"val/ap50", "val/ap75", "val/err1"} <= run.metrics.keys() for run in trained)
    tested = sorted(net["test_err1"] for net in members)
    assert sorted(run.metrics["test_err1"] for run in trained) == pytest.approx(tested)


def test_the_page_shows_the_test_images_and_loads_nothing(walk: Walk) -> None:
    page = (walk.workspace.report / "index.html").read_text()
    assert "brick" in page and NAME in page and "data:image" in page
    scenes = read_json(walk.workspace.result("mistakes"))["scenes"]
    assert 0 < len(scenes) <= SPLITS["test"]


def test_each_net_is_printed_once(walk: Walk, capsys: pytest.CaptureFixture[str]) -> None:
    result = read_json(walk.workspace.result("evaluate"))
    show(result)
    printed = capsys.readouterr().out
    assert [printed.count(net["key"]) for net in result["members"]] == [1, 1]
    told = ("ResNet-8", "recipe.max_steps=8"), ("ResNet-8", "recipe.max_steps=4"), ("plain-8", ""), ("", "")
    rows = [{"key": "k", "net": net, "apart": apart, "ap": [0.4, 0.5]} for net, apart in told]
    show({**result, "improvements": rows})
    lines = [line for line in capsys.readouterr().out.splitlines() if "without" in line]
    assert lines[0] == "k in ResNet-8 (recipe.max_steps=8): AP 40.0 % without, 50.0 % with it" and len({*lines}) == 4
    assert lines[2:] == [f"k{where}: AP 40.0 % without, 50.0 % with it" for where in (" in plain-8", "")]


def test_the_summary_speaks_of_ap_and_needs_no_sweep(walk: Walk, capsys: pytest.CaptureFixture[str]) -> None:
    summary.run(composed(walk.workspace.root, *walk.words), walk.workspace)
    printed = capsys.readouterr().out
    assert "test AP " in printed and "error" not in printed


def test_what_is_found_in_files_lies_inside_of_them_and_is_drawn(
    walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(walk.workspace.root)
    key = read_json(walk.workspace.result("train"))["key"]
    shown = (
        f"predict.weights=run:{key}",
        f"predict.draw={tmp_path / 'drawn'}",
        "predict.score=0",
        "predict.output=json",
    )
    capsys.readouterr()
    assert walk.run("predict", str(walk.photographs / "test"), *shown) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == SPLITS["test"] and any(line["objects"] for line in lines)
    for line in lines:
        width, height = Image.open(line["image"]).size
        for each in line["objects"]:
            left, top, right, bottom = each["box"]
            assert each["class"] in COLOURS and 0 <= left <= right <= width and 0 <= top <= bottom <= height
    assert len(list((tmp_path / "drawn").glob("*.png"))) == SPLITS["test"]


def test_the_result_is_published_with_pictures_and_weights_are_refused(
    walk: Walk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = walk.workspace.root
    monkeypatch.chdir(root)
    (root / "README.md").write_text(f"{BEGIN}\n{END}\n")
    assert walk.run("publish") == 0
    (path,) = (root / "results").glob("*.json")
    kept, evaluated = read_json(path), read_json(walk.workspace.result("evaluate"))
    assert kept["evaluation"]["ensemble"] == evaluated["ensemble"] and len(kept["curves"]) == 1
    pictures = sorted(file.name for file in (root / "results" / kept["name"]).iterdir())
    assert pictures == ["curves.png", "detections.png"]  # two seeds of one net: no gain
    page = (root / "results" / "README.md").read_text()
    assert f"({kept['name']}/detections.png)" in page and "**ensemble of 2**" in page
    assert f"| {NAME}, " in (root / "README.md").read_text()
    capsys.readouterr()
    assert walk.run("publish", "weights") == 2 and not (root / "results" / "weights").exists()
    assert "model=faster_rcnn; results/weights holds nets that classify" in capsys.readouterr().err
    assert walk.run("publish", "nothing") == 2
    assert "after publish comes one of weights" in capsys.readouterr().err


def test_crowds_and_boxes_that_stick_out_reach_what_ap_is_measured_by(walk: Walk) -> None:
    store = open_store(walk.workspace.store(NAME))
    truth = all_scenes(store, store.test()).truth
    assert sorted(len(boxes.labels) for boxes in truth) == [0, 2, 2, 2]
    assert sum(int(boxes.ignored.sum()) for boxes in truth) == 1
    for boxes in truth:
        assert (boxes.corners >= 0).all() and (boxes.corners[:, 2:] <= np.array(boxes.size)).all()
