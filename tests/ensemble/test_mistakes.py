"""The surest mistakes, on stores of both formats."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from tiny_world import CLASSES, NUM_TEST, write_store

from pipeline.data.shards import ShardRecords, ShardWriter, as_jpeg
from pipeline.ensemble.mistakes import MOST, SIDE, confident_mistakes, picture
from pipeline.ensemble.predictions import evaluation_images


def opened(mistake: dict) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(mistake["png"])))


@pytest.mark.parametrize("form", ["arrays", "shards"])
def test_the_surest_wrong_answers_come_with_their_pictures(tmp_path, form):
    store = write_store(tmp_path / "store", form)
    records = store.test()
    images = evaluation_images(store)
    average = np.full((NUM_TEST, len(CLASSES)), 0.01, np.float32)
    average[np.arange(NUM_TEST), images.labels] = 0.4
    chosen = {3: 0.9, 20: 0.95, 11: 0.9}  # images that are taken for the next class, and how surely
    for index, confidence in chosen.items():
        average[index, (images.labels[index] + 1) % len(CLASSES)] = confidence
    found = confident_mistakes(average, images)
    assert [one["index"] for one in found] == [20, 3, 11]  # equally sure ones in the store's order
    for one in found:
        actual = images.labels[one["index"]]
        assert one["confidence"] == pytest.approx(chosen[one["index"]])
        assert (one["actual"], one["predicted"]) == (CLASSES[actual], CLASSES[(actual + 1) % len(CLASSES)])
        pixels = np.asarray(opened(one))
        if form == "arrays":
            assert (pixels == np.asarray(records.images[one["index"]])[..., 0]).all()
        else:
            assert pixels.shape == (16, 20, 3)


def test_they_are_few_and_small_and_there_may_be_none(tmp_path):
    store = write_store(tmp_path / "store", "shards")
    images = evaluation_images(store)
    wrong = np.tile(np.linspace(0, 1, len(CLASSES), dtype=np.float32), (NUM_TEST, 1))
    assert len(confident_mistakes(wrong, images)) == MOST
    right = np.zeros((NUM_TEST, len(CLASSES)), np.float32)
    right[np.arange(NUM_TEST), images.labels] = 1
    assert confident_mistakes(right, images) == []


def test_a_large_photograph_is_made_small(tmp_path):
    np.save(tmp_path / "test_labels.npy", np.array([0]))
    with ShardWriter(tmp_path, "test") as writer:
        photograph = Image.new("RGB", (500, 300))
        writer.append(as_jpeg(b"", photograph, 300), 0, "a")
    assert Image.open(io.BytesIO(picture(ShardRecords(tmp_path, "test"), 0))).size == (SIDE, 58)
