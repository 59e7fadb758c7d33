"""Scenes of digits: their boxes are exact, and nothing but the seed decides them. Objects cut out of others show one digit each."""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
import pytest

from pipeline.config import DataConfig
from pipeline.data.boxes import boxes_of
from pipeline.data.facts import boxed
from pipeline.data.preprocess import preprocess
from pipeline.data.readers import DIGITS_TESTED, open_published
from pipeline.data.scenes import INK, MOST, OBJECT_SIDE, OVERLAP, SIDE, objects, scenes
from pipeline.data.sources import fetch
from pipeline.data.store import open_store

STROKE = np.zeros((8, 8), np.uint8)  # a digit whose box is known
STROKE[1:7, 3:5] = 255


def made(count: int, seed: int = 0, split: str = "train"):
    return scenes(np.stack([STROKE, np.rot90(STROKE)]), np.array([1, 7]), count, seed, split)


def test_boxes_hold_the_ink_of_their_digits_and_overlap_little():
    alone = [record for record in made(200) if len(record.boxes.labels) == 1]
    assert len(alone) > 10
    for record in alone:
        (left, top, right, bottom), (label,) = record.boxes.corners[0].astype(int), record.boxes.labels
        rows, columns = np.nonzero(record.image[..., 0] > 127)  # clutter is darker
        assert (rows.min() >= top, columns.min() >= left, rows.max() < bottom, columns.max() < right) == (True,) * 4
        assert (record.image[[top, bottom - 1], left:right] >= INK).any(1).all()  # no margin
        assert (bottom - top > right - left) == (label == 1)
    for record in made(200):
        assert 1 <= len(record.boxes.labels) <= MOST and record.boxes.size == (SIDE, SIDE) == record.image.shape[:2]
        corners = record.boxes.corners
        assert (corners[:, :2] >= 0).all() and (corners[:, 2:] <= SIDE).all()
        for one, two in combinations(corners, 2):
            sides = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2])
            smaller = min(np.prod(one[2:] - one[:2]), np.prod(two[2:] - two[:2]))
            assert np.prod(np.maximum(sides, 0)) <= OVERLAP * smaller + 1e-6


def test_seed_split_and_number_decide_a_scene():
    def pixels(*arguments) -> list[bytes]:
        return [record.image.tobytes() for record in made(*arguments)]

    assert pixels(20)[:5] == pixels(5)
    assert len({*pixels(5), *pixels(5, 1), *pixels(5, 0, "test")}) == 15


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    data = DataConfig(name="digit_scenes", source="digit_scenes", image_size=128, num_test=500, num_val=200)
    fetch(data, root / "raw", root)
    preprocess(data, root / "raw", root / "store")
    return open_store(root / "store")


def test_the_data_set_shows_every_digit_in_every_split_and_is_the_same_everywhere(store):
    assert store.manifest.counts == {"train": 2000, "test": 500} and store.manifest.classes == tuple("0123456789")
    for split, indices in (("train", store.split_indices("holdout")[1]), ("test", range(500))):
        boxes = boxes_of(store, split)
        labels = np.concatenate([boxes[at].labels for at in indices])
        assert (np.bincount(labels, minlength=10) > 20).all()
    bytes_ = b"".join(store.train().images[at].tobytes() for at in range(0, 2000, 100))
    assert hashlib.sha256(bytes_).hexdigest() == "ade496f66d1c27c385ee9b2c1b37e76c4432635b9fff174a5b717fa483e551c1"


def cut_out(count: int, split: str = "train"):
    return objects(np.stack([STROKE, np.rot90(STROKE)]), np.array([1, 7]), count, 0, split)


def test_an_object_fills_the_middle_of_its_square_and_has_a_fifth_of_context_at_each_end():
    records = cut_out(40)
    assert {record.label for record in records} == {1, 7}
    for record in records:
        assert record.image.shape == (OBJECT_SIDE, OBJECT_SIDE, 1) and record.boxes is None
        upright = record.image[..., 0] if record.label == 1 else record.image[..., 0].T
        first, last = np.flatnonzero(upright[:, 14:18].mean(1) > INK)[[0, -1]]  # of the stroke; others may touch it
        assert first <= 8 and last >= 23 and (upright[9:23, 14:18] > 127).all()


def test_no_object_is_cut_out_of_a_scene_that_detectors_see(monkeypatch):
    canvases: dict[str, set[bytes]] = {}
    monkeypatch.setattr("pipeline.data.scenes._cut_out", lambda canvas, _: canvas)
    for split in ("train", "test"):
        canvases[split] = {record.image.tobytes() for record in cut_out(100, split)}
        assert len(canvases[split]) > 20
        seen = {record.image.tobytes() for each in ("train", "test") for record in made(40, 0, each)}
        assert not canvases[split] & seen
    assert not canvases["train"] & canvases["test"]


def test_objects_are_a_labelled_data_set_that_is_the_same_everywhere(tmp_path):
    data = DataConfig(name="digit_objects", source="digit_objects", num_test=300, num_val=500, workers=1)
    fetch(data, tmp_path / "raw", tmp_path)
    preprocess(data, tmp_path / "raw", tmp_path / "store")
    store = open_store(tmp_path / "store")
    assert not boxed(store.manifest)
    assert store.manifest.counts == {"train": 5000, "test": 300} and store.manifest.classes == tuple("0123456789")
    assert (np.bincount(store.train().labels, minlength=10) > 400).all()
    bytes_ = store.train().images[::100].tobytes()
    assert hashlib.sha256(bytes_).hexdigest() == "248de1ce4ca94aba5d724e813769264e997f580caaa86ec5bb337294511019a0"


def test_test_objects_show_digits_that_no_training_image_shows(tmp_path, monkeypatch):
    shown: dict[str, set[bytes]] = {}

    def seen(images, labels, count, seed, split):
        shown[split] = shown.get(split, set()) | {image.tobytes() for image in images}
        return []

    for maker, source in (("scenes", "digit_scenes"), ("objects", "digit_objects")):
        monkeypatch.setattr(f"pipeline.data.readers.{maker}", seen)
        data = DataConfig(name="of_digits", source=source, image_size=128 if maker == "scenes" else 32, num_test=9)
        fetch(data, tmp_path, tmp_path)
        with open_published(source.replace("_", "-"), [tmp_path / "digits.npz"], tmp_path, data):
            pass
    assert len(shown["test"]) == DIGITS_TESTED and not shown["train"] & shown["test"]
