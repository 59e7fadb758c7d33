"""The LightningDataModule: a store, a split and a recipe become normalised batches on the device."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from pipeline.config import RecipeConfig
from pipeline.data.store import open_store
from pipeline.learn.input.batches import batches_of
from pipeline.learn.input.loader import EvalLoader, TrainLoader

EVAL_BATCH = 500  # images a rank and a forward pass


class ImageData(pl.LightningDataModule):
    """Training and validation batches `(images, labels)`: (B, C, H, W) float32 channels_last, (B,) int64.

    Small images stay memory-mapped (one copy a machine) or on the GPU; a batch travels as indices and draws. JPEGs are
    decoded and cropped by threads. Test images are not reachable from here.

    Args:
        store: folder that preprocess made.
        split: holdout or full.
        recipe: gives the global batch size, the augmentation and the normalisation, with the whole split's statistics.
        workers: decoding threads a rank; 0 for one per CPU core.
        num_train: how many training images to use; 0 for all.
    """

    def __init__(
        self,
        store: Path,
        split: str,
        recipe: RecipeConfig,
        seed: int,
        workers: int = 0,
        num_train: int = 0,
    ) -> None:
        super().__init__()
        self._store = open_store(store)
        self._records = self._store.train()
        self._train, self._val = self._store.split_indices(split, num_train)
        self._batch_size, self._seed = recipe.batch_size, seed
        self._workers = workers or os.cpu_count() or 1
        statistics = self._store.statistics(split)
        self.batches = batches_of(self._records, statistics, recipe.augment, recipe.normalize, self._workers)

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
