"""Batches of whole images with boxes: what becomes of pixels and corners, worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from imports import ROOT

from benchmarks.synthetic import boxed_store
from pipeline.config import AugmentConfig
from pipeline.data.boxes import Boxes, BoxTable, boxes_of
from pipeline.data.shards import ShardRecords, ShardWriter
from pipeline.data.store import ArrayRecords, Statistics
from pipeline.learn.input.scenes import SceneBatches, scaled

NEVER, ALWAYS = 0.9, 0.1  # draws of a flip


def whole(**changes: Any) -> AugmentConfig:
    return AugmentConfig(**{"kind": "whole", "crop": 8, **changes})


def statistics(channels: int) -> Statistics:
    return Statistics(
        np.full(channels, 0.5, np.float32), np.full(channels, 0.5, np.float32), np.zeros((1, 1, channels))
    )


def draws(*rows: tuple[float, ...]) -> np.ndarray:
    """Of a flip, a side, anchors and regions."""
    return np.array(rows, np.float32)


def noise(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def small(folder: Path, images: np.ndarray, boxes: list[Boxes], **augment: Any) -> SceneBatches:
    np.save(folder / "train_images.npy", images)
    np.save(folder / "train_labels.npy", np.zeros(len(images), np.int64))
    BoxTable.write(folder, "train", boxes)
    records = ArrayRecords(folder, "train")
    return SceneBatches(records, BoxTable(folder, "train"), statistics(images.shape[3]), whole(**augment), "half")


def photographs(folder: Path, images: list[np.ndarray], boxes: list[Boxes], **augment: Any) -> SceneBatches:
    with ShardWriter(folder, "train") as writer:
        for at, image in enumerate(images):
            writer.append(simplejpeg.encode_jpeg(image, 95), 0, f"{at}.jpg")
    np.save(folder / "train_labels.npy", np.zeros(len(images), np.int64))
    BoxTable.write(folder, "train", boxes)
    return SceneBatches(
        ShardRecords(folder, "train"), BoxTable(folder, "train"), statistics(3), whole(**augment), "half"
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_flip_mirrors_pixels_and_corners(channels: int, tmp_path: Path) -> None:
    image = noise(0, 4, 6)[..., :channels]
    boxes = Boxes.make((6, 4), [((1, 0, 3, 2), 2, False), ((0, 1, 6, 4), 0, False), ((0.5, 0, 0.75, 4), 1, False)])
    batches = small(tmp_path, image[None], [boxes])
    plain, flipped = (batches.fetch(np.array([0]), draws((flip, 0, 0, 0))) for flip in (NEVER, ALWAYS))
    assert np.array_equal(plain[1][0].permute(1, 2, 0), image)
    assert np.array_equal(flipped[1][0].permute(1, 2, 0), image[:, ::-1])
    assert plain[3].tolist() == [[1, 0, 3, 2], [0, 1, 6, 4], [0.5, 0, 0.75, 4]]
    assert flipped[3].tolist() == [[3, 0, 5, 2], [0, 1, 6, 4], [5.25, 0, 5.5, 4]]
    assert plain[4].tolist() == flipped[4].tolist() == [2, 0, 1]


def test_neither_a_test_nor_flip_false_flips(tmp_path: Path) -> None:
    image = noise(0, 4, 6)[None]
    batches = small(tmp_path, image, [Boxes.make((6, 4), [((1, 0, 3, 2), 0, False)])])
    assert batches.fetch(np.array([0]), None)[3].tolist() == [[1, 0, 3, 2]]
    still = small(tmp_path, image, [Boxes.make((6, 4), [((1, 0, 3, 2), 0, False)])], flip=False)
    assert still.fetch(np.array([0]), draws((ALWAYS, 0, 0, 0)))[3].tolist() == [[1, 0, 3, 2]]


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((375, 500), 600, (600, 800)),
        ((500, 375), 600, (800, 600)),
        ((600, 1000), 600, (600, 1000)),  # just fits
        ((300, 1000), 600, (300, 1000)),  # 600 of the shorter side would be 2,000 of the longer one
        ((100, 400), 600, (250, 1000)),
        ((1200, 1200), 600, (600, 600)),
        ((1, 10_000), 600, (1, 1000)),
    ],
)
def test_the_shorter_side_has_600_pixels_unless_the_longer_would_pass_1000(
    size: tuple[int, int], side: int, expected: tuple[int, int]
) -> None:
    assert scaled(*size, side) == expected


def test_photographs_and_their_boxes_are_scaled_alike_and_padded_to_one_size(tmp_path: Path) -> None:
    images = [noise(1, 30, 40), noise(2, 60, 30)]  # height, width
    boxes = [
        Boxes.make((40, 30), [((4, 3, 20, 30), 1, False), ((0, 0, 40, 30), 0, True)]),
        Boxes.make((30, 60), [((15, 6, 30, 60), 2, False)]),
    ]
    batches = photographs(tmp_path, images, boxes, test_side=60)
    indices, pixels, sizes, corners, labels, counts, _ = batches.fetch(np.array([0, 1]), draws(*[(NEVER, 0, 0, 0)] * 2))
    # 30 to 60 doubles the first; the second may only have 100 pixels of 60, and keeps its shape.
    assert sizes.tolist() == [[60, 80], [100, 50]] and pixels.shape == (2, 3, 100, 80)
    assert not pixels[0, :, 60:].any() and not pixels[1, :, :, 50:].any() and pixels[1, :, 99, 49].any()
    assert corners.tolist() == [[8, 6, 40, 60], pytest.approx([25, 10, 50, 100])]  # the ignored object is left out
    assert labels.tolist() == [1, 2] and counts.tolist() == [1, 1] and indices.tolist() == [0, 1]
    flipped = batches.fetch(np.array([0]), draws((ALWAYS, 0, 0, 0)))
    assert flipped[3].tolist() == [[40, 6, 72, 60]]
    _, whole_images, targets = batches.finish(batches.fetch(np.array([0, 1]), None))
    assert [image.shape for image in whole_images] == [(3, 60, 80), (3, 100, 50)]
    assert [target["labels"].tolist() for target in targets] == [[2], [3]]  # 0 is the background


@pytest.mark.parametrize(("draw", "side"), [(0.0, 30), (0.49, 39), (0.999, 50)])
def test_a_draw_chooses_the_side_of_a_training_image(draw: float, side: int, tmp_path: Path) -> None:
    boxes = [Boxes.make((100, 100), [((0, 0, 10, 10), 0, False)])]
    batches = photographs(tmp_path, [noise(1, 100, 100)], boxes, min_side=30, max_side=50, test_side=60)
    assert int(0.49 * 21) == 10  # 30 to 50 are 21 sides
    assert batches.fetch(np.array([0]), draws((NEVER, draw, 0, 0)))[2].tolist() == [[side + (draw == 0.49)] * 2]
    assert batches.fetch(np.array([0]), None)[2].tolist() == [[60, 60]]


def test_draws_decide_everything(tmp_path: Path) -> None:
    store = boxed_store(tmp_path)
    batches = SceneBatches(store.train(), boxes_of(store, "train"), store.statistics("full"), whole(), "half")
    indices, rows = np.arange(8), np.random.default_rng(0).random((8, 4), np.float32)
    first, again = (batches.fetch(indices, rows) for _ in range(2))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert first[6].tolist() == [[int(value * 2**24) for value in row[2:]] for row in rows.tolist()]
    assert len(first[6].unique()) == 16
    # An image is the same in any batch.
    backwards = batches.fetch(indices[::-1].copy(), rows[::-1].copy())
    assert torch.equal(backwards[1], first[1].flip(0)) and torch.equal(backwards[6], first[6].flip(0))
    assert first[5].tolist() == [len(boxes_of(store, "train")[at].labels) for at in range(8)]


@pytest.mark.parametrize("draw", [None, np.empty((0, 4), np.float32)])
def test_a_rank_without_images_gets_an_empty_batch(draw: np.ndarray | None, tmp_path: Path) -> None:
    batches = small(tmp_path, noise(0)[None], [Boxes.make((8, 8), [])])
    fetched = batches.fetch(np.array([], np.int64), draw)
    assert [len(part) for part in fetched] == [0] * 7
    indices, images, targets = batches.finish(fetched)
    assert (len(indices), list(images), list(targets)) == (0, [], [])


def test_an_image_of_ignored_objects_has_none(tmp_path: Path) -> None:
    batches = small(tmp_path, noise(0)[None], [Boxes.make((8, 8), [((1, 1, 5, 5), 0, True)])])
    _, _, (target,) = batches.finish(batches.fetch(np.array([0]), draws((NEVER, 0, 0.25, 0.5))))
    assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,)
    assert target["seeds"] == [2**22, 2**23]


def test_pixels_are_normalised_by_channel(tmp_path: Path) -> None:
    batches = small(tmp_path, np.full((1, 2, 2, 1), 255, np.uint8), [Boxes.make((2, 2), [])])
    _, (image,), _ = batches.finish(batches.fetch(np.array([0]), None))
    assert image.dtype == torch.float32 and (image == 1).all()  # half: from 0..1 to -1..1


def test_a_box_whose_sides_fall_together_is_left_out(tmp_path: Path) -> None:
    """torchvision ends the training at a box without area."""
    tiny = (1e-9, 0, 2e-9, 4)  # a hair's breadth, which 6 - 1e-9 rounds away
    batches = small(tmp_path, noise(0, 4, 6)[None], [Boxes.make((6, 4), [(tiny, 0, False), ((1, 0, 3, 2), 1, False)])])
    assert batches.fetch(np.array([0]), draws((NEVER, 0, 0, 0)))[5].tolist() == [2]
    flipped = batches.fetch(np.array([0]), draws((ALWAYS, 0, 0, 0)))
    assert (flipped[3].tolist(), flipped[4].tolist(), flipped[5].tolist()) == ([[3, 0, 5, 2]], [1], [1])


def test_boxes_of_coco_take_what_docs_data_says(tmp_path: Path) -> None:
    BoxTable.write(tmp_path, "train", [Boxes.make((8, 8), [((0, 0, 1, 1), 0, False)] * 3)] * 5)
    for name, count, each in (("boxes", 15, 21), ("boxed", 5, 24)):
        path = tmp_path / f"train_{name}.npy"
        assert path.stat().st_size - np.load(path).nbytes < 256  # NumPy's header
        assert np.load(path).nbytes == each * count
    said = f"21 x 860,001 + 24 x 118,287 bytes, which are {(21 * 860_001 + 24 * 118_287) / 1e6:.1f} MB"
    assert said in (ROOT / "docs/data.md").read_text()
