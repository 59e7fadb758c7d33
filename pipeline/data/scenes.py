"""digit_scenes: scikit-learn's digits at random sizes and places on a canvas with clutter, with exact boxes.

A small data set for detectors that needs no download, and digit_objects: the objects of further scenes, cut out, for the
classifiers that detectors start from. Each scene is a function of the seed, its split and its number, in integers alone, so
that every machine makes the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as numbers
from itertools import islice

import numpy as np
from PIL import Image

from pipeline.data.boxes import Boxes
from pipeline.data.records import Record

SIDE = 128  # pixels of a scene
TRAIN = 2000  # scenes; data.num_test others are for testing
TRAIN_OBJECTS = 5000  # of digit_objects; data.num_test others are for testing
OBJECT_SIDE = 32  # pixels of an object that is cut out
MARGIN = 5  # an object's longer side has a fifth of it as context at each end
SPLITS = ("train", "test", "train objects", "test objects")  # in the order of their seeds: no two show the same scene
MOST = 6  # digits of a scene
SMALLEST, LARGEST = 14, 52  # side of a digit in pixels, before its margin is cut off
INK = 64  # brightness from which a pixel belongs to a digit, and to its box
OVERLAP = 0.3  # of the smaller box at most, between two digits
TRIES = 20  # places for a digit, before the scene does without it
SCRAPS = 12  # of digits, as clutter
SCRAP = 3  # pixels of 8, the side of a scrap before it is enlarged


def scenes(images: np.ndarray, labels: np.ndarray, count: int, seed: int, split: str) -> list[Record]:
    """`count` scenes of these digits, each of 1 to `MOST` of them.

    Args:
        images: (N, 8, 8) uint8, 0 to 255.
        labels: (N,) int64.
        split: train or test, whose scenes differ.
    """
    made = [_scene(images, labels, _Draws(seed, SPLITS.index(split), number)) for number in range(count)]
    return [Record(f"{split}/{at:05d}", 0, pixels[..., None], boxes=boxes) for at, (pixels, boxes) in enumerate(made)]


def objects(images: np.ndarray, labels: np.ndarray, count: int, seed: int, split: str) -> list[Record]:
    """`count` digits of scenes that `scenes` never makes, each in the middle of its square, with what is around it.

    Args:
        images, labels: as for `scenes`.
        split: train or test.
    """
    examples = _objects(images, labels, seed, SPLITS.index(f"{split} objects"))
    return [
        Record(f"{label}/{at:05d}", label, pixels[..., None])
        for at, (pixels, label) in enumerate(islice(examples, count))
    ]


def _objects(images: np.ndarray, labels: np.ndarray, seed: int, split: int) -> Iterator[tuple[np.ndarray, int]]:
    for number in numbers():
        canvas, boxes = _scene(images, labels, _Draws(seed, split, number))
        for corners, label in zip(boxes.corners.astype(int).tolist(), boxes.labels.tolist(), strict=True):
            yield _cut_out(canvas, corners), label


def _cut_out(canvas: np.ndarray, box: list[int]) -> np.ndarray:
    """The square around a box (left, top, right, bottom), resized; beyond the canvas it is black."""
    left, top, right, bottom = box
    longer = max(right - left, bottom - top)
    side = longer + 2 * (longer // MARGIN)
    left, top = (left + right - side) // 2, (top + bottom - side) // 2
    square = Image.fromarray(canvas).crop((left, top, left + side, top + side))
    return np.asarray(square.resize((OBJECT_SIDE, OBJECT_SIDE), Image.Resampling.BILINEAR))


class _Draws:
    """Whole numbers of a scene. PCG64's raw output is the same in all NumPy versions; Generator's draws are not."""

    def __init__(self, *seed: int) -> None:
        self._bits = np.random.PCG64([int(part) for part in seed])

    def below(self, count: int) -> int:
        """A number in [0, count)."""
        return int(self._bits.random_raw()) % count

    def between(self, least: int, most: int) -> int:
        """A number in [least, most]."""
        return least + self.below(most - least + 1)


def _scene(images: np.ndarray, labels: np.ndarray, draws: _Draws) -> tuple[np.ndarray, Boxes]:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(SCRAPS):  # below the digits
        top, left = draws.below(9 - SCRAP), draws.below(9 - SCRAP)
        scrap = images[draws.below(len(images))][top : top + SCRAP, left : left + SCRAP]
        _paste(canvas, _enlarged(scrap, draws.between(6, 18)) // 2, draws.below(SIDE), draws.below(SIDE))
    placed: list[tuple[tuple[int, int, int, int], int, bool]] = []
    for _ in range(draws.between(1, MOST)):
        which = draws.below(len(images))
        ink = _cut(_enlarged(images[which], draws.between(SMALLEST, LARGEST)))
        height, width = ink.shape
        for _ in range(TRIES):
            top, left = draws.below(SIDE - height + 1), draws.below(SIDE - width + 1)
            box = (left, top, left + width, top + height)
            if all(_overlap(box, other) <= OVERLAP for other, _, _ in placed):
                _paste(canvas, ink, top, left)
                placed.append((box, int(labels[which]), False))
                break
    return canvas, Boxes.make((SIDE, SIDE), placed)


def _enlarged(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def _cut(image: np.ndarray) -> np.ndarray:
    """The rectangle of the pixels that belong to the digit."""
    rows, columns = (np.flatnonzero((image >= INK).any(axis)) for axis in (1, 0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _paste(canvas: np.ndarray, image: np.ndarray, top: int, left: int) -> None:
    """Brightens the canvas where the image is brighter; what lies outside is cut off."""
    part = canvas[top : top + image.shape[0], left : left + image.shape[1]]
    np.maximum(part, image[: part.shape[0], : part.shape[1]], out=part)


def _overlap(one: tuple[int, int, int, int], two: tuple[int, int, int, int]) -> float:
    """The area that both boxes cover, as a share of the smaller one."""
    width, height = min(one[2], two[2]) - max(one[0], two[0]), min(one[3], two[3]) - max(one[1], two[1])
    areas: Iterator[int] = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, two))
    return max(0, width) * max(0, height) / min(areas)
