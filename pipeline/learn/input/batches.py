"""From record indices to normalised batches on the device, for stores of either format."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pipeline.config import AugmentConfig
from pipeline.data.store import ArrayRecords, ShardRecords, Statistics
from pipeline.learn.input.additions import Additions
from pipeline.learn.input.augment import PAD_CROP_DRAWS, ColourShift, Normalize, PadCrop, mean_of_crops
from pipeline.learn.input.normalization import channel_constants
from pipeline.learn.input.trivial import TRIVIAL_DRAWS, trivial_augment

if TYPE_CHECKING:
    from pipeline.learn.input.crops import Crop, View

CHUNK = 16  # JPEGs that a thread decodes at a time
AHEAD = 4  # batches that threads prepare
TEST_PIXELS = 128 * 224 * 224  # in a forward pass over test images


class ArrayBatches:
    """Batches of small images: `fetch` makes tensors of the indices, `finish` gathers and augments on the device.

    TrivialAugment works on one image after the other, in threads that fetch, so that these batches hold images.
    """

    def __init__(self, records: ArrayRecords, augment: PadCrop, additions: Additions, trivial: bool = False) -> None:
        self._images, self._labels = _read_only(records.images), torch.from_numpy(np.array(records.labels))
        self._augment, self._additions = augment, additions
        self._on_disk = self._images if trivial else None
        self.ahead, self.mixes = AHEAD if trivial else 0, additions.mixes
        self._ends = np.cumsum([PAD_CROP_DRAWS, TRIVIAL_DRAWS if trivial else 0])
        self.width = int(self._ends[-1]) + additions.width

    def fetch(self, indices: np.ndarray, draws: np.ndarray | None) -> tuple[Tensor, ...]:
        rows = torch.from_numpy(indices)
        if draws is None:
            return rows, torch.empty(0)
        crops, trivial, added = np.split(draws, self._ends, axis=1)
        ready = torch.cat((torch.from_numpy(crops), self._additions.prepared(added)), 1)
        if self._on_disk is None:
            return rows, ready
        pairs = zip(self._on_disk[rows].permute(0, 3, 1, 2), torch.from_numpy(trivial), strict=True)
        return rows, ready, torch.stack([trivial_augment(*pair) for pair in pairs]).permute(0, 2, 3, 1)

    def to(self, device: torch.device) -> ArrayBatches:
        if self._images.device != device:
            self._images, self._labels = self._images.to(device), self._labels.to(device)
            self._augment.to(device)
        return self

    def finish(self, batch: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Images and labels, see `Additions.finish`."""
        rows, draws, *made = batch
        self.to(rows.device)
        images, labels = made[0] if made else self._images[rows], self._labels[rows]
        if not draws.numel():
            return self._augment.test(images), labels
        return self._additions.finish(self._augment.train(images, draws), labels, draws[:, PAD_CROP_DRAWS:])


class ShardBatches:
    """Batches of JPEGs: `fetch` decodes and crops in threads, `finish` normalises on the device."""

    ahead = AHEAD

    def __init__(
        self,
        records: ShardRecords,
        augment: AugmentConfig,
        normalize: Normalize,
        workers: int,
        colours: ColourShift | None = None,
    ) -> None:
        from pipeline.learn.input import crops

        self._colours, self._additions = colours, Additions(augment)
        self._trivial_draws = TRIVIAL_DRAWS if augment.trivial_augment else 0
        self._ends = np.cumsum([crops.CROP_DRAWS, colours.width if colours else 0, self._trivial_draws])
        self.width, self.mixes = int(self._ends[-1]) + self._additions.width, self._additions.mixes
        self._crops, self._records, self._augment, self._normalize = crops, records, augment, normalize
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._thread = threading.local()

    def fetch(self, indices: np.ndarray, draws: np.ndarray | None) -> tuple[Tensor, ...]:
        """(B, 3, S, S) uint8 in channels_last memory, (B,) int64; for training, what colours and additions need."""
        more: tuple[Tensor, ...] = ()
        if draws is not None:
            draws, colour_draws, trivial, added = np.split(draws, self._ends, axis=1)
            more = (self._colours(colour_draws),) if self._colours else ()
            more += (self._additions.prepared(added),) if self._additions.width else ()
        images = self._cut(indices, partial(self._crop, draws), (self._augment.crop, self._augment.crop))
        if draws is not None and self._trivial_draws:

            def alter(n: int) -> None:
                images[n] = trivial_augment(images[n], torch.from_numpy(trivial[n]))

            list(self._pool.map(alter, range(len(images))))
        labels = torch.from_numpy(self._records.labels[indices].astype(np.int64))
        return images, labels, *more

    def look(self, indices: np.ndarray, view: View, most_pixels: int = TEST_PIXELS) -> list[tuple[np.ndarray, Tensor]]:
        """One view of the images at `indices`, in groups of one size: (n,) positions in `indices`, (n, 3, h, w) uint8.

        Args:
            most_pixels: in a group; a larger image is a group of its own.
        """
        heights_widths = (self._crops.size_of(self._records.jpeg(index)) for index in indices.tolist())
        sizes = [view.shape(height, width) for height, width in heights_widths]
        groups = []
        for size in sorted(set(sizes)):
            same = np.array([position for position, other in enumerate(sizes) if other == size])
            most = max(1, most_pixels // (size[0] * size[1]))
            for part in np.split(same, range(most, len(same), most)):
                groups.append((part, self._cut(indices[part], lambda _, h, w: view.cut(h, w), size)))
        return groups

    def _cut(self, indices: np.ndarray, choose: Callable[[int, int, int], Crop], size: tuple[int, int]) -> Tensor:
        """(B, 3, *size) uint8, in channels_last memory.

        Args:
            choose: returns the crop of image n of `indices`, given n, its height and its width.
        """
        images = np.empty((len(indices), *size, 3), np.uint8)
        chunk = max(1, min(CHUNK, len(indices) // self._workers))

        def decode(start: int) -> None:
            if not hasattr(self._thread, "cropper"):
                self._thread.cropper = self._crops.Cropper()
            part = slice(start, start + chunk)
            jpegs = [self._records.jpeg(index) for index in indices[part].tolist()]
            self._thread.cropper(jpegs, lambda n, h, w: choose(start + n, h, w), images[part])

        list(self._pool.map(decode, range(0, len(indices), chunk)))
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def _crop(self, draws: np.ndarray | None, position: int, height: int, width: int) -> Crop:
        if draws is None:
            return self._crops.test_crop(height, width, self._augment.crop, self._augment.test_side)
        return self._crops.train_crop(height, width, draws[position], self._augment)

    def to(self, device: torch.device) -> ShardBatches:
        self._normalize.to(device)
        return self

    def finish(self, batch: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Images and labels, see `Additions.finish`."""
        images, labels, *more = batch
        if not (more and self._additions.width):
            return self.inputs(images, *more), labels
        *shifts, draws = more
        return self._additions.finish(self.inputs(images, *shifts), labels, draws)

    def inputs(self, images: Tensor, *shifts: Tensor) -> Tensor:
        """(B, 3, h, w) float32, normalised, from uint8."""
        self.to(images.device)
        return self._normalize(images, *shifts)


def batches_of(
    records: ArrayRecords | ShardRecords, statistics: Statistics, augment: AugmentConfig, normalize: str, workers: int
) -> ArrayBatches | ShardBatches:
    """Makes batches of records of either format."""
    per_pixel = normalize == "per_pixel_mean"
    mean, std = map(torch.from_numpy, channel_constants("channel" if per_pixel else normalize, statistics))
    if per_pixel:
        std = torch.ones_like(std)
    if isinstance(records, ShardRecords):
        colours = None
        if augment.pca_std:
            assert statistics.covariance is not None  # stores of JPEGs have one
            colours = ColourShift(statistics.covariance, augment.pca_std)
        means = mean[:, None, None]
        if per_pixel:
            means = mean_of_crops(torch.from_numpy(statistics.pixel_mean), augment.test_side, augment.crop)
        return ShardBatches(records, augment, Normalize(means, std), workers, colours)
    height, width = records.images.shape[1:3]
    mean = torch.from_numpy(statistics.pixel_mean) if per_pixel else mean.expand(height, width, -1).contiguous()
    crop = PadCrop(mean, std, augment.padding, augment.flip, black=augment.pad_with == "black")
    return ArrayBatches(records, crop, Additions(augment), augment.trivial_augment)


def _read_only(images: np.ndarray) -> Tensor:
    """A tensor over a read-only memory map, without torch's warning: nothing here writes to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(images)
