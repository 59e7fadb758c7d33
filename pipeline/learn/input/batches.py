"""From record indices to normalised batches on the device, for stores of either format."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pipeline.config import AugmentConfig
from pipeline.data.store import ArrayRecords, ShardRecords, Statistics
from pipeline.learn.input.augment import PAD_CROP_DRAWS, ColourShift, Normalize, PadCrop, mean_of_crops
from pipeline.learn.input.normalization import channel_constants

if TYPE_CHECKING:
    from pipeline.learn.input.crops import Crop, View

DECODED = 16  # JPEGs that a thread is given at a time
LOOKED_AT = 128 * 224 * 224  # pixels of test images in a forward pass


class ArrayBatches:
    """Batches of small images: `fetch` names them, `finish` gathers and augments them where the data lie."""

    width, ahead = PAD_CROP_DRAWS, 0

    def __init__(self, records: ArrayRecords, augment: PadCrop) -> None:
        # A read-only map is never written through this tensor; torch only warns that it cannot know.
        self._images, self._labels = _borrowed(records.images), torch.from_numpy(np.array(records.labels))
        self._augment = augment

    def fetch(self, indices: np.ndarray, draws: np.ndarray | None) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(indices)
        return rows, torch.from_numpy(draws) if draws is not None else torch.empty(0)

    def to(self, device: torch.device) -> ArrayBatches:
        if self._images.device != device:
            self._images, self._labels = self._images.to(device), self._labels.to(device)
            self._augment.to(device)
        return self

    def finish(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        rows, draws = batch
        self.to(rows.device)
        images, labels = self._images[rows], self._labels[rows]
        return (self._augment.train(images, draws) if draws.numel() else self._augment.test(images)), labels


class ShardBatches:
    """Batches of JPEGs: `fetch` decodes and crops in threads, `finish` normalises on the device."""

    ahead = 4

    def __init__(
        self,
        records: ShardRecords,
        augment: AugmentConfig,
        normalize: Normalize,
        workers: int,
        colours: ColourShift | None = None,
    ) -> None:
        from pipeline.learn.input import crops

        self._colours = colours
        self.width = crops.CROP_DRAWS + (colours.width if colours else 0)
        self._crops, self._records, self._augment, self._normalize = crops, records, augment, normalize
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._of_thread = threading.local()

    def fetch(self, indices: np.ndarray, draws: np.ndarray | None) -> tuple[Tensor, ...]:
        """(B, 3, S, S) uint8 in channels_last memory, (B,) int64 and, of a shift in colour, (B, 3) float32."""
        shifts: tuple[Tensor, ...] = ()
        if self._colours and draws is not None:
            draws, of_colour = np.split(draws, [self._crops.CROP_DRAWS], axis=1)
            shifts = (self._colours(of_colour),)
        side = self._augment.crop
        if draws is None:
            images = self._cut(
                indices, lambda at, h, w: self._crops.test_crop(h, w, side, self._augment.test_side), side
            )
        else:
            images = self._cut(indices, partial(self._train_crop, draws), side)
        labels = torch.from_numpy(self._records.labels[indices].astype(np.int64))
        return images, labels, *shifts

    def look(self, indices: np.ndarray, view: View) -> list[tuple[np.ndarray, Tensor]]:
        """One view of the images at `indices`, of equal size together: (n,) places in `indices`, (n, 3, h, w) uint8."""
        sizes = [view.shape(*self._crops.size_of(self._records.jpeg(index))) for index in indices.tolist()]
        groups = []
        for size in sorted(set(sizes)):
            places = np.array([place for place, found in enumerate(sizes) if found == size])
            most = max(1, LOOKED_AT // (size[0] * size[1]))  # at a time: large images are many pixels
            for some in np.split(places, range(most, len(places), most)):
                groups.append((some, self._cut(indices[some], lambda at, h, w: view.cut(h, w), *size)))
        return groups

    def _cut(self, indices: np.ndarray, choose: Callable[[int, int, int], Crop], height: int, width: int = 0) -> Tensor:
        """(B, 3, height, width) uint8, in channels_last memory; without a width, squares.

        Args:
            choose: the crop of image n of `indices`, given n, its height and its width.
        """
        images = np.empty((len(indices), height, width or height, 3), np.uint8)
        some = max(1, min(DECODED, len(indices) // self._workers))

        def decode(start: int) -> None:
            if not hasattr(self._of_thread, "cropper"):
                self._of_thread.cropper = self._crops.Cropper()
            part = slice(start, start + some)
            jpegs = [self._records.jpeg(index) for index in indices[part].tolist()]
            self._of_thread.cropper(jpegs, lambda at, h, w: choose(start + at, h, w), images[part])

        list(self._pool.map(decode, range(0, len(indices), some)))
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def _train_crop(self, draws: np.ndarray, at: int, height: int, width: int) -> Crop:
        augment = self._augment
        assert augment.kind != "pad_crop"  # Config refuses it with shards
        sides = (augment.min_side, augment.max_side)
        return self._crops.train_crop(height, width, draws[at], augment.kind, augment.crop, sides, augment.flip)

    def to(self, device: torch.device) -> ShardBatches:
        self._normalize.to(device)
        return self

    def finish(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        images, labels, *shifts = batch
        return self.inputs(images, *shifts), labels

    def inputs(self, images: Tensor, *shifts: Tensor) -> Tensor:
        """(B, 3, h, w) float32, normalised, of uint8."""
        self.to(images.device)
        return self._normalize(images, *shifts)


def batches_of(
    records: ArrayRecords | ShardRecords, statistics: Statistics, augment: AugmentConfig, normalize: str, workers: int
) -> ArrayBatches | ShardBatches:
    """Batch maker for records of either format.

    Raises:
        ValueError: a store of JPEGs made before it held what the recipe asks for.
    """
    per_pixel = normalize == "per_pixel_mean"
    mean, std = map(torch.from_numpy, channel_constants("channel" if per_pixel else normalize, statistics))
    if per_pixel:
        std = torch.ones_like(std)
    if isinstance(records, ShardRecords):
        colours = (
            ColourShift(_had(statistics.covariance, "augment.pca_std"), augment.pca_std) if augment.pca_std else None
        )
        means = mean[:, None, None]
        if per_pixel:
            pixel_mean = torch.from_numpy(_had(statistics.pixel_mean, "normalize=per_pixel_mean"))
            means = mean_of_crops(pixel_mean, augment.test_side, augment.crop)
        return ShardBatches(records, augment, Normalize(means, std), workers, colours)
    height, width = records.images.shape[1:3]
    mean = torch.from_numpy(statistics.pixel_mean) if per_pixel else mean.expand(height, width, -1).contiguous()
    return ArrayBatches(records, PadCrop(mean, std, augment.padding, augment.flip))


def _had(statistic: np.ndarray | None, key: str) -> np.ndarray:
    if statistic is None:
        raise ValueError(
            f"recipe.{key} needs a statistic that this data store lacks; make it again with `dvc repro preprocess`"
        )
    return statistic


def _borrowed(images: np.ndarray) -> Tensor:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(images)
