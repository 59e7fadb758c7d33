"""The LightningDataModule: a store, a split and a recipe become normalised batches on the device."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.config import AugmentConfig
from pipeline.data.augment import PAD_CROP_DRAWS, Normalize, PadCrop
from pipeline.data.loader import EvalLoader, TrainLoader
from pipeline.data.store import ArrayRecords, ShardRecords, Statistics, open_store

if TYPE_CHECKING:
    from pipeline.data.crops import Crop

EVAL_BATCH = 500  # images a rank and a forward pass
DECODED = 16  # JPEGs that a thread is given at a time


class ImageData(pl.LightningDataModule):
    """Training and validation batches `(images, labels)`: (B, C, H, W) float32 channels_last, (B,) int64.

    Small images stay memory-mapped (one copy a machine) or on the GPU; a batch travels as indices and draws. JPEGs are
    decoded and cropped by threads. Test images are not reachable from here.

    Args:
        store: folder that preprocess made.
        split: holdout or full.
        batch_size: global, over all ranks.
        normalize: per_pixel_mean or channel.
        workers: decoding threads a rank; 0 for one per CPU core.
    """

    def __init__(
        self,
        store: Path,
        split: str,
        batch_size: int,
        augment: AugmentConfig,
        normalize: str,
        seed: int,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self._store = open_store(store)
        self._records = self._store.train()
        self._train, self._val = self._store.split_indices(split)
        self._batch_size, self._seed, self._augment = batch_size, seed, augment
        self._workers = workers or os.cpu_count() or 1
        self.batches = batches_of(self._records, self._store.statistics(split), augment, normalize, self._workers)

    @property
    def num_classes(self) -> int:
        return len(self._store.manifest.classes)

    @property
    def in_channels(self) -> int:
        return self._store.manifest.channels

    @property
    def has_validation(self) -> bool:
        return len(self._val) > 0

    def _ranks(self) -> dict[str, int]:
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def train_dataloader(self) -> TrainLoader:
        return TrainLoader(
            self._train,
            len(self._records.labels),
            self._batch_size,
            self.batches.width,
            self._seed,
            self.batches.fetch,
            ahead=self.batches.ahead,
            **self._ranks(),
        )

    def val_dataloader(self) -> EvalLoader | list:
        if not self.has_validation:
            return []
        return EvalLoader(self._val, EVAL_BATCH, self.batches.fetch, ahead=self.batches.ahead, **self._ranks())

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        return self.batches.finish(batch)


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

    def __init__(self, records: ShardRecords, augment: AugmentConfig, normalize: Normalize, workers: int) -> None:
        from pipeline.data import crops

        self.width = crops.CROP_DRAWS
        self._crops, self._records, self._augment, self._normalize = crops, records, augment, normalize
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._of_thread = threading.local()

    def fetch(self, indices: np.ndarray, draws: np.ndarray | None) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) uint8 in channels_last memory and (B,) int64."""
        side = self._augment.crop
        images = np.empty((len(indices), side, side, 3), np.uint8)
        some = max(1, min(DECODED, len(indices) // self._workers))
        parts = [slice(at, at + some) for at in range(0, len(indices), some)]
        rows = [None if draws is None else draws[part] for part in parts]
        list(self._pool.map(self._decode, [indices[part] for part in parts], rows, [images[part] for part in parts]))
        return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(
            self._records.labels[indices].astype(np.int64)
        )

    def _decode(self, indices: np.ndarray, draws: np.ndarray | None, out: np.ndarray) -> None:
        if not hasattr(self._of_thread, "cropper"):
            self._of_thread.cropper = self._crops.Cropper()
        choose = self._test_crop if draws is None else partial(self._train_crop, draws)
        self._of_thread.cropper([self._records.jpeg(index) for index in indices.tolist()], choose, out)

    def _train_crop(self, draws: np.ndarray, at: int, height: int, width: int) -> Crop:
        augment = self._augment
        assert augment.kind != "pad_crop"  # Config refuses it with shards
        sides = (augment.min_side, augment.max_side)
        return self._crops.train_crop(height, width, draws[at], augment.kind, augment.crop, sides, augment.flip)

    def _test_crop(self, at: int, height: int, width: int) -> Crop:
        return self._crops.test_crop(height, width, self._augment.crop, self._augment.test_side)

    def to(self, device: torch.device) -> ShardBatches:
        self._normalize.to(device)
        return self

    def finish(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        images, labels = batch
        self.to(images.device)
        return self._normalize(images), labels


def batches_of(
    records: ArrayRecords | ShardRecords, statistics: Statistics, augment: AugmentConfig, normalize: str, workers: int
) -> ArrayBatches | ShardBatches:
    """Batch maker for records of either format.

    Raises:
        ValueError: per-pixel mean of images that have no common size.
    """
    mean, std = torch.from_numpy(statistics.mean), torch.from_numpy(statistics.std)
    if isinstance(records, ShardRecords):
        if normalize != "channel":
            raise ValueError(f"recipe.normalize={normalize} with shards; images of differing size take channel")
        return ShardBatches(records, augment, Normalize(mean, std), workers)
    height, width = records.images.shape[1:3]
    if normalize == "per_pixel_mean":
        mean, std = torch.from_numpy(statistics.pixel_mean), torch.ones_like(std)
    else:
        mean = mean.expand(height, width, -1).contiguous()
    return ArrayBatches(records, PadCrop(mean, std, augment.padding, augment.flip))


def _borrowed(images: np.ndarray) -> Tensor:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(images)
