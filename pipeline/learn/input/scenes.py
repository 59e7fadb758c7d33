"""Batches of whole images with the boxes of their objects, for detectors, and what these find; stores of either format.

Axes: B images, H x W pixels, C channels, M objects of all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config import AugmentConfig
from pipeline.data.boxes import BoxTable, Detections
from pipeline.data.store import ArrayRecords, ShardRecords, Statistics
from pipeline.learn.input.normalization import channel_constants

FLIP, SIDE, ANCHORS, REGIONS = range(4)  # an image's draws
AHEAD = 4  # batches of JPEGs that threads prepare, if not told otherwise
LONGEST = 5 / 3  # of the longer side, as a multiple of the shorter one (Ren et al. 2015: 1,000 of 600 pixels)


class SceneBatches:
    """`fetch` gathers, flips and scales images and boxes; `finish` normalises on the device.

    Ignored objects (COCO's crowds, VOC's difficult ones) are left out, so that nets do not learn from them.
    """

    width, mixes = 4, False

    def __init__(
        self,
        records: ArrayRecords | ShardRecords,
        boxes: BoxTable,
        statistics: Statistics,
        augment: AugmentConfig,
        normalize: str,
        threads: int = AHEAD,
    ) -> None:
        """
        Args:
            threads: that decode JPEGs, a batch each.
        """
        self.boxes = boxes
        self._records, self._augment = records, augment
        self.ahead = threads if isinstance(records, ShardRecords) else 0
        self._mean, self._std = map(torch.from_numpy, channel_constants(normalize, statistics))

    def fetch(self, indices: np.ndarray, draws: np.ndarray | None) -> tuple[Tensor, ...]:
        """Record indices (B,); (B, C, H, W) uint8, smaller images padded below and on the right; their sizes (B, 2) int64, height
        and width; corners (M, 4) float32; labels (M,) int64; objects (B,) int64 and seeds (B, 2) int64 of each image.

        Without draws, images are as in a test, and the labels are not needed.
        """
        rows = draws if draws is not None else np.full((len(indices), self.width), 0.5, np.float32)
        made = [self._example(index, row, draws is None) for index, row in zip(indices.tolist(), rows, strict=True)]
        images = [image for image, _, _ in made]
        height, width = (max((image.shape[axis] for image in images), default=1) for axis in (1, 2))
        padded = [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in images]
        return (
            torch.from_numpy(indices),
            torch.stack(padded) if padded else torch.empty(0, len(self._mean), 1, 1, dtype=torch.uint8),
            torch.tensor([image.shape[1:] for image in images], dtype=torch.int64).reshape(-1, 2),
            torch.cat([torch.empty(0, 4), *(corners for _, corners, _ in made)]),
            torch.cat([torch.empty(0, dtype=torch.int64), *(labels for _, _, labels in made)]),
            torch.tensor([len(labels) for _, _, labels in made], dtype=torch.int64),
            torch.from_numpy((rows[:, ANCHORS:] * 2**24).astype(np.int64)),
        )

    def _example(self, index: int, draws: np.ndarray, test: bool) -> tuple[Tensor, Tensor, Tensor]:
        """(C, H, W) uint8, (m, 4) float32 and (m,) int64 of one image, scaled and perhaps mirrored."""
        boxes = self.boxes[index]
        kept = ~boxes.ignored
        image = torch.from_numpy(self._pixels(index)).permute(2, 0, 1)
        corners, labels = torch.from_numpy(boxes.corners[kept]), torch.from_numpy(boxes.labels[kept])
        height, width = image.shape[1:]
        if (size := self._size(height, width, draws[SIDE], test)) != (height, width):
            image = resized(image, size)
            across, down = size[1] / width, size[0] / height
            corners = corners * torch.tensor([across, down, across, down])
        if self._augment.flip and not test and draws[FLIP] < 0.5:
            image = image.flip(2)
            left, top, right, bottom = corners.unbind(1)
            corners = torch.stack([image.shape[2] - right, top, image.shape[2] - left, bottom], 1)
        real = (corners[:, 2:] > corners[:, :2]).all(1)  # float32 may round the sides of a tiny box to one place
        return image, corners[real], labels[real]

    def _pixels(self, index: int) -> np.ndarray:
        """(H, W, C) uint8."""
        if isinstance(self._records, ArrayRecords):
            return np.array(self._records.images[index])
        return decoded(self._records.jpeg(index))

    def _size(self, height: int, width: int, draw: float, test: bool) -> tuple[int, int]:
        """Height and width of the net's input."""
        augment = self._augment
        if isinstance(self._records, ArrayRecords):
            return height, width
        drawn = augment.min_side + int(draw * (augment.max_side - augment.min_side + 1))
        return scaled(height, width, augment.test_side if test or not augment.max_side else drawn)

    def to(self, device: torch.device) -> SceneBatches:
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def finish(self, batch: Sequence[Tensor]) -> tuple[Any, ...]:
        """Record indices (B,), images as B tensors (C, h, w) float32 of their own sizes, and B targets, see `Detector`."""
        indices, images, sizes, corners, labels, counts, seeds = batch
        self.to(images.device)
        values = normalised(images, self._mean, self._std)
        whole = [image[:, :height, :width] for image, (height, width) in zip(values, sizes.tolist(), strict=True)]
        parts = counts.tolist()
        targets = [
            {"boxes": box, "labels": label + 1, "seeds": seed}
            for box, label, seed in zip(corners.split(parts), labels.split(parts), seeds.tolist(), strict=True)
        ]
        return indices, whole, targets


def scaled(height: int, width: int, side: int) -> tuple[int, int]:
    """The size at which the shorter side has `side` pixels, or fewer where the longer one would pass `LONGEST` times as many."""
    factor = min(side / min(height, width), LONGEST * side / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def decoded(jpeg: bytes | memoryview) -> np.ndarray:
    """(H, W, 3) uint8 of a JPEG as stores of shards keep them."""
    import simplejpeg  # here, since small images need no JPEG library

    return simplejpeg.decode_jpeg(jpeg)


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(..., C, H, W) float32 of uint8 pixels; mean and std are (C,) of pixels in [0, 1]."""
    return (images.float() / 255.0 - mean[:, None, None]) / std[:, None, None]


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, *size) uint8, bilinear and antialiased."""
    return F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]


def detections(
    outputs: list[dict[str, Tensor]], images: list[Tensor], sizes: list[tuple[int, int]]
) -> list[Detections]:
    """What a `Detector` finds, in pixels of the stored images.

    Args:
        outputs: of each image.
        images: (C, h, w) as the net saw them.
        sizes: width and height of the stored images, in pixels.
    """
    made = []
    for each, image, (width, height) in zip(outputs, images, sizes, strict=True):
        boxes, scores = (each[key].float().cpu().numpy() for key in ("boxes", "scores"))
        seen = Detections(boxes, scores, each["labels"].cpu().numpy() - 1)
        made.append(seen.resized(width / image.shape[2], height / image.shape[1]))
    return made
