"""Scenes of digits: their boxes are exact, and nothing but the seed decides them."""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
import pytest

from pipeline.config import DataConfig
from pipeline.data.boxes import boxes_of
from pipeline.data.preprocess import preprocess
from pipeline.data.scenes import INK, MOST, OVERLAP, SIDE, scenes
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
