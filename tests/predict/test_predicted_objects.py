"""`pipeline predict` with a detector: objects in image files, printed and drawn."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imports import ROOT
from PIL import Image
from runs import composed
from untrained import save_photo_detector

from pipeline.errors import PipelineError
from pipeline.predict import load_net
from pipeline.run.weights import BEST
from pipeline.stages import export, predict
from pipeline.workspace import Workspace

HEADER = ["image", "object", "class", "score", "left", "top", "right", "bottom"]


@pytest.fixture
def files(scenes: Any) -> Path:
    """in/ with a grey, an RGB, an RGBA and a wide image of the same scene, below the current folder."""
    folder = Path("in")
    folder.mkdir()
    grey = Image.open(scenes.folder / "0.png")
    grey.save("in/a.png")
    grey.convert("RGB").save("in/b.png")
    grey.convert("RGBA").save("in/c.png")
    grey.resize((300, 90)).save("in/d.jpg")
    return folder


@pytest.fixture
def found(scenes: Any, capsys: Any) -> Callable[..., str]:
    """What the command prints for images in `in`, by an untrained detector."""

    def run(*overrides: str, images: str = "in") -> str:
        capsys.readouterr()
        keys = (f"predict.weights={scenes.weights}", "trainer.accelerator=cpu", *overrides)
        predict.run(composed(ROOT, *keys), Workspace(ROOT, "digits"), [images])
        return capsys.readouterr().out

    return run


def test_json_has_the_objects_of_each_image_in_its_pixels(found: Any, files: Path, scenes: Any) -> None:
    answers = [json.loads(line) for line in found("predict.output=json", "predict.score=0").splitlines()]
    assert [answer["image"] for answer in answers] == ["in/a.png", "in/b.png", "in/c.png", "in/d.jpg"]
    net = load_net(scenes.weights)
    (expected,) = net([torch.from_numpy(np.array(scenes.records.images[0])).permute(2, 0, 1)])
    for answer in answers[:3]:  # of the same pixels
        rows = answer["objects"]
        assert [row["box"] for row in rows] == expected.corners.round().astype(int).tolist()
        assert [row["class"] for row in rows] == ["ab"[label] for label in expected.labels]
        assert [row["score"] for row in rows] == pytest.approx(expected.scores.tolist(), abs=1e-6)
    boxes = np.array([row["box"] for row in answers[3]["objects"]])
    assert boxes.min() >= 0 and 250 < boxes[:, 2].max() <= 300 and 70 < boxes[:, 3].max() <= 90
    scores = [row["score"] for row in answers[3]["objects"]]
    assert scores == sorted(scores, reverse=True)


def test_photos_that_the_store_would_shrink_are_answered_in_their_own_pixels(
    found: Any, photos: Any, tmp_path: Path
) -> None:
    save_photo_detector(tmp_path / BEST)
    Image.open(next(photos.folder.rglob("*.jpg"))).resize((320, 200)).save("large.jpg")
    weights = f"predict.weights={tmp_path / BEST}"
    (line,) = found(weights, "predict.output=json", "predict.score=0", images="large.jpg").splitlines()
    boxes = np.array([row["box"] for row in json.loads(line)["objects"]])
    assert 250 < boxes[:, 2].max() <= 320 and 150 < boxes[:, 3].max() <= 200


def test_objects_below_the_least_score_are_not_shown_and_images_without_any_are(found: Any, files: Path) -> None:
    def scores(least: str) -> list[list[float]]:
        printed = found("predict.output=json", f"predict.score={least}")
        return [[row["score"] for row in json.loads(line)["objects"]] for line in printed.splitlines()]

    everything = scores("0")
    least = everything[0][len(everything[0]) // 2]
    assert scores(f"{least + 1e-6}") == [[score for score in row if score > least + 1e-6] for row in everything]
    assert scores("1") == [[]] * len(everything)


def test_csv_has_a_row_for_each_object_and_one_for_an_image_without(found: Any, files: Path) -> None:
    answers = [json.loads(line) for line in found("predict.output=json", "predict.score=0").splitlines()]
    rows = list(csv.DictReader(found("predict.output=csv", "predict.score=0").splitlines()))
    assert list(rows[0]) == HEADER
    expected = [
        [answer["image"], str(at), row["class"], str(row["score"]), *map(str, row["box"])]
        for answer in answers
        for at, row in enumerate(answer["objects"], 1)
    ]
    assert [list(row.values()) for row in rows] == expected
    empty = list(csv.reader(found("predict.output=csv", "predict.score=1").splitlines()))
    assert empty == [HEADER, *([answer["image"], *[""] * 7] for answer in answers)]


def test_a_table_is_for_people(found: Any, files: Path, capsys: Any) -> None:
    printed = found("predict.score=0", images="in/a.png")
    first = json.loads(found("predict.score=0", "predict.output=json", images="in/a.png"))["objects"][0]
    assert "ResNet-8 Faster R-CNN, run 000000000000" in printed
    (line,) = [line for line in printed.splitlines() if "│      1 │" in line]
    assert [cell.strip() for cell in line.split("│")[1:-1]] == [
        *("in/a.png", "1", first["class"], f"{first['score']:.3f}"),
        *map(str, first["box"]),
    ]
    assert "nothing found" in found("predict.score=1")


def test_images_that_cannot_be_read_are_named_and_the_others_answered(
    found: Any, files: Path, caplog: Any, capsys: Any
) -> None:
    Image.fromarray(np.zeros((64, 64), np.uint16)).save("in/deep.png")
    Path("in/text.png").write_text("no image")
    with pytest.raises(PipelineError, match=r"2 of 6 images cannot be read.*the others are answered"):
        found("predict.output=csv", "predict.score=1", "predict.draw=out")
    assert len(capsys.readouterr().out.splitlines()) == 1 + 4
    assert ["deep.png" in caplog.messages[0], "text.png" in caplog.messages[1]] == [True, True]
    assert "more than 8 bits" in caplog.messages[0]
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "b.png", "c.png", "d.png"]


def test_each_image_is_drawn_with_its_objects(found: Any, files: Path) -> None:
    found("predict.draw=out", "predict.score=0")
    found("predict.draw=plain", "predict.score=1")
    for name, size in (("a", (512, 512)), ("c", (512, 512)), ("d", (600, 180))):
        drawing, plain = (Image.open(Path(folder, f"{name}.png")) for folder in ("out", "plain"))
        assert drawing.mode == "RGB" and drawing.size == plain.size == size
        assert np.any(np.asarray(drawing) != np.asarray(plain))


def test_a_detector_of_a_file_is_refused_where_nets_must_classify(files: Path, scenes: Any) -> None:
    config = composed(ROOT, f"export.weights={scenes.weights}")
    with pytest.raises(PipelineError, match="finds objects, and exports are of nets that classify"):
        export.run(config, Workspace(ROOT, "digits"))


def test_drawings_of_nets_that_classify_are_refused(files: Path, photos: Any, found: Any) -> None:
    with pytest.raises(
        PipelineError, match=r"predict.draw=out draws boxes, and ResNet-18 .B., run 000000000000 names classes"
    ):
        found(f"predict.weights={photos.weights}", "predict.draw=out")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["predict.draw=in"],
            "predict.draw=in: drawings would lie among the images and could replace them; name another folder",
        ),
        (["predict.draw=in/a.png"], "predict.draw=in/a.png is a file; name a folder"),
        (["predict.score=1.5"], "predict.score"),
    ],
)
def test_a_mistake_is_one_sentence(overrides: list[str], sentence: str, files: Path, found: Any) -> None:
    before = {path: path.read_bytes() for path in files.iterdir()}
    with pytest.raises(PipelineError) as raised:
        found(*overrides)
    assert sentence in str(raised.value) and len(str(raised.value).splitlines()) == 1
    assert {path: path.read_bytes() for path in files.iterdir()} == before


def test_an_image_beside_those_to_draw_is_not_replaced(files: Path, found: Any) -> None:
    Image.open("in/a.png").save("in/d.png")
    before = Path("in/d.png").read_bytes()
    with pytest.raises(PipelineError, match="drawings would lie among the images"):
        found("predict.draw=in", images="in/d.jpg")
    assert Path("in/d.png").read_bytes() == before
