"""What a net that names the class of an image learns."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.learn.training.counts import Counts, Errors, add_batch
from pipeline.learn.training.module import TrainingModule


class Classifier(TrainingModule):
    """Trains on batches ((B, C, H, W) float32, (B,) int64). Errors are fractions."""

    counted = Errors

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._count = add_batch
        self._val_sums = torch.zeros(4, dtype=torch.float64)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)

    def on_train_start(self) -> None:
        super().on_train_start()
        if self._on_gpu and self._calls.compiled:
            self._count = torch.compile(add_batch, dynamic=False)

    def _loss(self, side: int, *batch: Any) -> Tensor:
        images, labels, *mixed = batch
        loss, logits = self.loss(shrunk(images, side), labels, *mixed)
        with torch.no_grad():
            self._count(self._sums, logits, labels, loss * len(labels))
        return loss

    def loss(
        self, images: Tensor, labels: Tensor, second: Tensor | None = None, shares: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean loss of a batch, and its logits in float32.

        Args:
            second: (B,) labels of the images mixed into these, see `additions.Mixing`.
            shares: (B,) of the first labels.
        """
        logits, smoothing = self(images).float(), self.recipe.label_smoothing
        if second is None or shares is None:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing), logits
        one, two = (
            F.cross_entropy(logits, each, reduction="none", label_smoothing=smoothing) for each in (labels, second)
        )
        return torch.lerp(two, one, shares).mean(), logits

    def _warmed(self, counts: Counts) -> bool:
        return counts.since(self._checked)["train/err1"] < self.recipe.warmup_until_err

    def on_validation_epoch_start(self) -> None:
        self._val_sums = torch.zeros(4, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        if len(labels):
            logits = self.result.forward(images).float()  # not compiled: few images, of other shapes
            add_batch(self._val_sums, logits, labels, F.cross_entropy(logits, labels, reduction="sum"))

    def on_validation_epoch_end(self) -> None:
        loss, wrong1, wrong5, count = self.trainer.strategy.reduce(self._val_sums, reduce_op="sum").tolist()
        self._validated({"val/loss": loss / count, "val/err1": wrong1 / count, "val/err5": wrong5 / count})


def shrunk(images: Tensor, side: int) -> Tensor:
    """(B, C, H, W) images resized to (B, C, side, side); returned as they are if they have that size."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear").contiguous(memory_format=torch.channels_last)
