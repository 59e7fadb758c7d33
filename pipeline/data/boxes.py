"""Boxes around the objects of images, and the two files in which a store keeps those of a split.

train_boxes.npy     (M,) BOX: the boxes of all training images, in the images' order; test_boxes.npy likewise
train_boxed.npy     (N, 3) int64: where each image's boxes end, and its width and height; test_boxed.npy likewise
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.store import Store
from pipeline.data.verified import verify

# Corners in pixels from the image's upper left corner, not rounded: COCO's are fractions.
SIDES = ("left", "top", "right", "bottom")
BOX = np.dtype([*((side, "<f4") for side in SIDES), ("label", "<i4"), ("ignored", "?")])


class Boxes(NamedTuple):
    """The n objects of an image. A pixel in column c covers [c, c + 1]."""

    size: tuple[int, int]  # width and height of the image, in pixels
    corners: np.ndarray  # (n, 4) float32, pixels: left, top, right, bottom
    labels: np.ndarray  # (n,) int64
    ignored: np.ndarray  # (n,) bool: COCO's crowds and VOC's difficult objects, neither missed nor wrong if detected

    @classmethod
    def make(cls, size: tuple[int, int], rows: Sequence[tuple[Sequence[float], int, bool]]) -> Boxes:
        """From (corners, label, ignored) of each object, in this order."""
        corners = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
        return cls(
            size, corners, np.array([row[1] for row in rows], np.int64), np.array([row[2] for row in rows], bool)
        )

    def resized(self, width: int, height: int) -> Boxes:
        """Those of the image resized to these pixels."""
        across, down = width / self.size[0], height / self.size[1]
        corners = (self.corners * np.array([across, down, across, down])).astype(np.float32)
        return self._replace(size=(width, height), corners=corners)


class Detections(NamedTuple):
    """What a detector found in one image, highest score first."""

    corners: np.ndarray  # (n, 4) float32, pixels of the original image, as in `Boxes`: left, top, right, bottom
    scores: np.ndarray  # (n,) float32, only their order counts
    labels: np.ndarray  # (n,) int64

    def resized(self, across: float, down: float) -> Detections:
        """Those of the image whose width and height are this many times as large."""
        return self._replace(corners=self.corners * np.array([across, down, across, down], np.float32))


class BoxTable:
    """The boxes of a split's N images, memory-mapped."""

    def __init__(self, folder: Path, split: str) -> None:
        self._boxes: np.ndarray = np.load(folder / f"{split}_boxes.npy", mmap_mode="r")
        self._images: np.ndarray = np.load(folder / f"{split}_boxed.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Boxes:
        """Raises IndexError if `index` is not in [0, N)."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        start = self._images[index - 1, 0] if index else 0
        end, width, height = self._images[index].tolist()
        rows = self._boxes[start:end]
        corners = np.stack([rows[side] for side in SIDES], axis=1)
        return Boxes((width, height), corners, np.array(rows["label"], np.int64), np.array(rows["ignored"]))

    @staticmethod
    def write(folder: Path, split: str, boxes: Sequence[Boxes]) -> None:
        """Writes the boxes of each image of a split."""
        rows = np.empty(sum(len(each.labels) for each in boxes), BOX)
        end, images = 0, np.empty((len(boxes), 3), np.int64)
        for at, (size, corners, labels, ignored) in enumerate(boxes):
            part = rows[end : end + len(labels)]
            for side, column in zip(SIDES, corners.T, strict=True):
                part[side] = column
            part["label"], part["ignored"] = labels, ignored
            end += len(labels)
            images[at] = (end, *size)
        np.save(folder / f"{split}_boxes.npy", rows)
        np.save(folder / f"{split}_boxed.npy", images)


def boxes_of(store: Store, split: str) -> BoxTable:
    """Of the images of train or test, where the data set has them.

    Raises:
        DamagedError: the files are not those that preprocess wrote.
    """
    names = (f"{split}_boxes.npy", f"{split}_boxed.npy")
    verify(store.path, {name: store.manifest.files[name]["sha256"] for name in names})
    return BoxTable(store.path, split)
