"""The models of detectors in a real store of MLflow: of trainings."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from elsewhere import predicted
from imports import ROOT, closure
from mlflow.exceptions import MlflowException
from PIL import Image
from small_scenes import CLASSES, SIDE, track_detector, write_store

from pipeline.data.boxes import SIDES, Detections
from pipeline.data.store import Store
from pipeline.predict import load_net
from pipeline.run.weights import BEST
from pipeline.tracking.location import Location, client, find_run

COLUMNS = ["image", "class", "score", *SIDES]
CODE = ROOT / "pipeline/detection/model.py"


class Trained(NamedTuple):
    store: Store
    location: Location
    weights: Path
    uri: str  # of the training's model
    images: np.ndarray  # (N, H, W, 1) uint8


@pytest.fixture
def trained(tmp_path: Path, location: Location) -> Trained:
    store = write_store(tmp_path / "store")
    net = track_detector(tmp_path / "runs", store, location, 1)
    run_id = find_run(client(location), "1", net.key).info.run_id
    mlflow.set_tracking_uri(location.uri)
    images = np.array(store.test().images[:3])  # type: ignore[union-attr]
    return Trained(store, location, tmp_path / "runs" / net.key / BEST, f"runs:/{run_id}/model", images)


def alone(trained: Trained, images: np.ndarray) -> list[Detections]:
    """What the net in the file of weights finds in each (H, W, 1) image alone."""
    net = load_net(trained.weights)
    return [net([torch.from_numpy(image).permute(2, 0, 1)])[0] for image in images]


def assert_finds(table: pd.DataFrame, expected: list[Detections]) -> None:
    assert list(table.columns) == COLUMNS and len(table) == sum(len(each.labels) for each in expected) > 0
    for index, each in enumerate(expected):
        rows = table[table["image"] == index]
        assert rows["class"].tolist() == [CLASSES[label] for label in each.labels]
        np.testing.assert_allclose(rows["score"], each.scores, atol=1e-5)
        np.testing.assert_allclose(rows[[*SIDES]], each.corners, atol=1e-3)


def png(image: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(image[..., 0]).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def encoded(images: Iterable[np.ndarray]) -> np.ndarray:
    return np.array([png(image) for image in images], object)


def test_a_training_finds_the_objects_of_images_in_every_form(trained: Trained) -> None:
    model, images, expected = mlflow.pyfunc.load_model(trained.uri), trained.images, alone(trained, trained.images)
    assert_finds(model.predict(images), expected)
    assert_finds(model.predict(np.array(images.tolist(), object)), expected)
    assert_finds(model.predict(encoded(images)), expected)
    assert_finds(model.predict(images / 255, params={"pixels": "unit"}), expected)
    assert model.metadata.signature.outputs.input_names() == COLUMNS
    assert model.input_example.shape == (1, SIDE, SIDE, 1)


def test_images_have_sizes_of_their_own_and_boxes_are_in_their_pixels(trained: Trained) -> None:
    large = np.array(Image.fromarray(trained.images[0][..., 0]).resize((120, 90)))[..., None]
    images = [large, trained.images[1]]
    table = mlflow.pyfunc.load_model(trained.uri).predict(encoded(images))
    assert_finds(table, alone(trained, images))
    boxes = table[table["image"] == 0]
    assert SIDE < boxes["right"].max() <= 120 and SIDE < boxes["bottom"].max() <= 90


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.zeros((1, SIDE, SIDE, 3), np.uint8), "an array of shape"),
        (np.full((1, SIDE, SIDE, 1), 0.5), "send integers from 0 to 255"),
        (np.zeros((1, SIDE), np.uint8), "image 0 is neither pixels nor a text"),
        (np.array([[[[0], [1]], [[2]]]], object), "a list of 1 where axis 2 of an image has 2 entries"),
        (np.array(["0"], object), "no whole PNG or JPEG"),
        (encoded([np.zeros((8000, 8001, 1), np.uint8)]), "8001 x 8000 pixels; detectors take at most 64 million"),
    ],
)
def test_other_images_are_refused(images: Any, sentence: str, trained: Trained) -> None:
    with pytest.raises(MlflowException, match=sentence):
        mlflow.pyfunc.load_model(trained.uri).predict(images)


def test_it_runs_where_this_project_is_not_installed(trained: Trained, tmp_path: Path) -> None:
    (code,) = tmp_path.rglob("code/pipeline_*")
    carried = {path.relative_to(code) for path in code.rglob("*") if path.is_file()}
    assert carried == {path.relative_to(ROOT / "pipeline") for path in closure(CODE)}
    table = predicted(tmp_path, trained.location.uri, trained.uri, trained.images)
    assert_finds(table, alone(trained, trained.images))
