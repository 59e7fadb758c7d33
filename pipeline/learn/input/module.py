"""The LightningDataModule: makes normalised batches on the device from a store, a split and a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from pipeline.config import RecipeConfig
from pipeline.data.store import open_store
from pipeline.learn.input.loader import EvalLoader, Share, TrainLoader
from pipeline.learn.tasks import CLASSIFICATION, Task


class ImageData(pl.LightningDataModule):
    """Training and validation batches, normalised, as the task makes them: of classifiers `(images, labels)`,
    (B, C, H, W) float32 channels_last, (B,) int64.

    With mixup or CutMix, training batches have second labels and shares too, see `additions.Mixing`. Small images stay
    memory-mapped (one copy a machine) or on the GPU; a batch travels as indices and draws. Threads decode and crop JPEGs. Test
    images cannot be reached from here.

    Args:
        store: folder that preprocess made.
        split: holdout or full.
        recipe: gives the global batch size, its parts, the augmentation and the normalisation, which uses the split's statistics.
        workers: threads of a rank that decode JPEGs.
        num_train: how many training images to use; 0 for all.
        task: makes the batches.
    """

    def __init__(
        self,
        store: Path,
        split: str,
        recipe: RecipeConfig,
        seed: int,
        workers: int,
        num_train: int = 0,
        task: Task = CLASSIFICATION,
    ) -> None:
        super().__init__()
        opened = open_store(store)
        self._count = opened.manifest.counts["train"]
        self._train, self._val = opened.split_indices(split, num_train)
        self._batch_size, self._parts, self._seed = recipe.batch_size, recipe.accumulate, seed
        self.batches, self._eval_batch = task.batches(opened, split, recipe, workers), task.eval_batch

    @property
    def has_validation(self) -> bool:
        return len(self._val) > 0

    @property
    def _share(self) -> Share:
        return Share(self.trainer.global_rank, self.trainer.world_size) if self.trainer else Share()

    def train_dataloader(self) -> TrainLoader:
        return TrainLoader(
            self._train, self._count, self._batch_size, self._seed, self.batches, self._share, self._parts
        )

    def val_dataloader(self) -> EvalLoader | list:
        if not self.has_validation:
            return []
        return EvalLoader(self._val, self._eval_batch, self.batches.fetch, self.batches.ahead, self._share)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, ...]:
        return self.batches.finish(batch)
