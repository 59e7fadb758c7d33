"""The LightningModule: one net, one loss, one optimiser; every net of the project trains through it."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config import RecipeConfig
from pipeline.training.schedule import lr_at


class DivergedError(ValueError):
    """The loss is no finite number any more."""


class Classifier(pl.LightningModule):
    """Trains `model` on batches ((B, C, H, W) float32, (B,) int64) by SGD.

    Metrics are fractions, summed as counts over all ranks, so that uneven shares and batch sizes change nothing.
    """

    def __init__(self, model: nn.Module, recipe: RecipeConfig) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self.warming = recipe.warmup_lr > 0
        self.val_metrics: dict[str, float] = {}
        self._window = self._val_sums = torch.zeros(4, dtype=torch.float64)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        recipe = self.recipe
        groups = [{"params": list(self.model.parameters()), "weight_decay": recipe.weight_decay}]
        if not recipe.decay_norm:
            # Lists, not sets: a checkpoint holds momentum by position, and a set's order is another in each process.
            norm = [
                p
                for m in self.model.modules()
                if isinstance(m, nn.modules.batchnorm._BatchNorm)
                for p in m.parameters(False)
            ]
            groups = [
                {
                    "params": [p for p in self.model.parameters() if p not in set(norm)],
                    "weight_decay": recipe.weight_decay,
                },
                {"params": norm, "weight_decay": 0.0},
            ]
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov)

    def on_train_start(self) -> None:
        self._window = self._window.to(self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = lr_at(self.global_step, self.recipe, self.warming)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self(images).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        with torch.no_grad():
            self._window += _sums(logits.detach(), labels, loss.detach() * len(labels))
        return loss

    def take_window(self) -> dict[str, float]:
        """Train metrics since the last call, over all ranks; ends ResNet-110's warm-up when its rule is met (Sec. 4.2)."""
        loss, wrong1, _, count = self.trainer.strategy.reduce(self._window, reduce_op="sum").tolist()
        self._window = torch.zeros_like(self._window)
        if not math.isfinite(loss):
            raise DivergedError(
                f"the training loss is {loss} at step {self.global_step}; lower recipe.lr ({self.recipe.lr}) or add a warm-up"
            )
        lr = lr_at(self.global_step - 1, self.recipe, self.warming)
        if self.warming and wrong1 / count < self.recipe.warmup_until_err:
            self.warming = False
        return {"train/loss": loss / count, "train/err1": wrong1 / count, "lr": lr}

    def on_validation_epoch_start(self) -> None:
        self._val_sums = torch.zeros(4, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        if len(labels):
            logits = self.model.forward(images).float()  # not the compiled call: few images, of other shapes
            self._val_sums += _sums(logits, labels, F.cross_entropy(logits, labels, reduction="sum"))

    def on_validation_epoch_end(self) -> None:
        loss, wrong1, wrong5, count = self.trainer.strategy.reduce(self._val_sums, reduce_op="sum").tolist()
        self.val_metrics = {"val/loss": loss / count, "val/err1": wrong1 / count, "val/err5": wrong5 / count}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The window goes along, so that the first metrics after a resume cover the same steps as without the break.
        window = self.trainer.strategy.reduce(self._window, reduce_op="sum").clone()
        self._window = window.clone() if self.global_rank == 0 else torch.zeros_like(window)
        checkpoint["classifier"] = {"warming": self.warming, "window": window.cpu()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.warming = checkpoint["classifier"]["warming"]
        if self.global_rank == 0:
            self._window = checkpoint["classifier"]["window"]


def _sums(logits: Tensor, labels: Tensor, loss: Tensor) -> Tensor:
    """(4,) float64: loss, top-1 errors, top-5 errors, images.

    An image is a top-k error where k or more other classes do not score lower than its own: a tie counts as an error, as
    in `pipeline.evaluation.errors`, and so do NaN scores.
    """
    above = (~(logits < logits.gather(1, labels[:, None]))).sum(1) - 1
    count = torch.full_like(loss, len(labels))
    return torch.stack([loss.double(), (above >= 1).sum().double(), (above >= 5).sum().double(), count.double()])
