"""The LightningModule: one net, one loss; every net of the project trains through it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from pipeline.config import RecipeConfig
from pipeline.fast.graphed import GraphedStep, pinned
from pipeline.learn.input.order import noise_seed
from pipeline.learn.training.optimisers import optimisers
from pipeline.learn.training.schedule import Plateau, lr_at, side_at

# Lightning warns of a training_step that takes an iterator, which is what lets it take several batches.
warnings.filterwarnings("ignore", message=".*`dataloader_iter`")


class DivergedError(ValueError):
    """The loss is no finite number any more."""


class Classifier(pl.LightningModule):
    """Trains `model` on batches ((B, C, H, W) float32, (B,) int64).

    Metrics are fractions, summed as counts over all ranks, so that uneven shares and batch sizes change nothing.

    Lightning's own work between two calls of `training_step` takes a GPU about as long as a small net's step. A call
    therefore makes several steps, and ends where something else is due. On one GPU they are replays of one CUDA graph;
    several ranks exchange gradients in each step as they always do.

    Args:
        steps_per_call: at the most.
        due: intervals in steps at whose multiples a call ends; 0 for none.
        compiled: whether `model` is; on a GPU what comes before and after it then is, too.
        seed: of dropout.
        backbone_lr: share of the learning rate of all layers but the last; where 0, batch norm keeps its statistics.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: RecipeConfig,
        steps_per_call: int = 1,
        due: Sequence[int] = (),
        compiled: bool = False,
        seed: int = 0,
        backbone_lr: float = 1.0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.recipe = model, recipe
        self.warming, self.plateau = recipe.warmup_lr > 0, Plateau()
        self.val_metrics: dict[str, float] = {}
        self._steps_per_call, self._due = steps_per_call, tuple(filter(None, due))
        self._graphed: GraphedStep | None = None
        self._compiled, self._count = compiled, _count
        self._backbone_lr = backbone_lr
        drops = any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p for module in model.modules())
        self._seed = seed if drops else None
        self._finish: Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]  # the data module's, once training starts
        self._window, self._val_sums = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)

    @property
    def _on_gpu(self) -> bool:
        return next(self.model.parameters()).is_cuda

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return optimisers(self.model, self.recipe, self._backbone_lr)

    def on_train_start(self) -> None:
        if self._backbone_lr == 0:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()  # Lightning gives each module its own mode back after validation
        self._window = self._window.to(self.device)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                # A checkpoint brings these along, perhaps from another device. A recorded step reads its rate from a
                # tensor.
                if "fused" in group:
                    group["fused"] = self._on_gpu or None
                group["lr"] = torch.zeros((), device=self.device) if self._on_gpu else 0.0
        batches = self.trainer.datamodule.batches.to(self.device)  # type: ignore[attr-defined]
        self._finish = batches.finish
        if self._on_gpu and self._compiled:  # a dozen small kernels each become one or two
            self._finish = torch.compile(batches.finish, dynamic=False)
            self._count = torch.compile(_count, dynamic=False)
        alone = isinstance(self.trainer.strategy, SingleDeviceStrategy)
        if self._on_gpu and alone and self._steps_per_call > 1:
            self._graphed = GraphedStep(self._advance, self.device)

    def release(self) -> None:
        """Gives the device memory back that recorded steps hold."""
        self._graphed = None

    def training_step(self, dataloader_iter: Iterator[Any]) -> None:
        """The next steps, counted for Lightning, which itself counts each call as one batch and no step."""
        loop = self.trainer.fit_loop.epoch_loop
        for made, (batch, _, _) in enumerate(islice(dataloader_iter, self._steps_ahead())):
            if made:
                loop.batch_progress.increment_by(1)
            self._set_rate(lr_at(self.global_step, self.recipe, self.warming, self.plateau.drops))
            if self._seed is not None:  # a resumed run drops what the unbroken one would have dropped
                torch.manual_seed(noise_seed(self._seed, self.global_step, self.global_rank))
            side = side_at(self.global_step, self.recipe)
            if self._graphed is not None:
                self._graphed(side, batch)
            else:
                self._advance(side, [pinned(part, self.device).to(self.device, non_blocking=True) for part in batch])
            loop.manual_optimization.optim_step_progress.increment_by(1)

    def _steps_ahead(self) -> int:
        """How many steps the next call may make."""
        step = self.global_step
        return min(self._steps_per_call, self.recipe.max_steps - step, *(every - step % every for every in self._due))

    def _set_rate(self, rate: float) -> None:
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate * group["share"])
                else:
                    group["lr"] = rate * group["share"]

    def _advance(self, side: int, batch: Sequence[Tensor]) -> None:
        """One optimiser step on images of `side` pixels, from a batch on the device as the data module fetches it."""
        images, labels = self._finish(batch)
        loss, logits = self.loss(shrunk(images, side), labels)
        with torch.no_grad():
            self._count(self._window, logits, labels, loss * len(labels))
        for optimizer in self.trainer.optimizers:
            optimizer.zero_grad()
        with torch.autocast(self.device.type, enabled=False):  # a backward pass has its forward pass's types
            self.manual_backward(loss)
        for optimizer in self.trainer.optimizers:
            optimizer.step()

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss of a batch, and its logits in float32."""
        logits = self(images).float()
        return F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing), logits

    def take_window(self) -> dict[str, float]:
        """Train metrics since the last call, over all ranks; ends ResNet-110's warm-up when its rule is met (Sec. 4.2)."""
        loss, wrong1, _, count = self.trainer.strategy.reduce(self._window.clone(), reduce_op="sum").tolist()
        self._window.zero_()
        if not math.isfinite(loss):
            raise DivergedError(
                f"the training loss is {loss} at step {self.global_step}; lower recipe.lr ({self.recipe.lr}) or add a warm-up"
            )
        lr = lr_at(self.global_step - 1, self.recipe, self.warming, self.plateau.drops)
        if self.warming and wrong1 / count < self.recipe.warmup_until_err:
            self.warming = False
        return {"train/loss": loss / count, "train/err1": wrong1 / count, "lr": lr}

    def on_validation_epoch_start(self) -> None:
        self._val_sums = torch.zeros(4, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        if len(labels):
            logits = self.model.forward(images).float()  # not the compiled call: few images, of other shapes
            _count(self._val_sums, logits, labels, F.cross_entropy(logits, labels, reduction="sum"))

    def on_validation_epoch_end(self) -> None:
        loss, wrong1, wrong5, count = self.trainer.strategy.reduce(self._val_sums, reduce_op="sum").tolist()
        self.val_metrics = {"val/loss": loss / count, "val/err1": wrong1 / count, "val/err5": wrong5 / count}
        self.plateau.saw(wrong1 / count, self.recipe)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The window goes along, so that the first metrics after a resume cover the same steps as without the break.
        window = self.trainer.strategy.reduce(self._window.clone(), reduce_op="sum")
        self._window.copy_(window if self.global_rank == 0 else torch.zeros_like(window))
        checkpoint["classifier"] = {"warming": self.warming, "plateau": asdict(self.plateau), "window": window.cpu()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.warming = checkpoint["classifier"]["warming"]
        self.plateau = Plateau(**checkpoint["classifier"]["plateau"])
        if self.global_rank == 0:
            self._window = checkpoint["classifier"]["window"]


def shrunk(images: Tensor, side: int) -> Tensor:
    """(B, C, side, side) of (B, C, H, W) images; themselves where they have that size."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear").contiguous(memory_format=torch.channels_last)


def _count(sums: Tensor, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
    """Adds a batch to (4,) float64 sums: loss, top-1 errors, top-5 errors, images.

    An image is a top-k error where k or more other classes do not score lower than its own: a tie counts as an error, as
    in `pipeline.evaluation.errors`, and so do NaN scores.
    """
    lower = (logits < logits.gather(1, labels[:, None])).sum(1)
    classes = logits.shape[1]
    sums[0].add_(loss)
    sums[1].add_((lower < classes - 1).sum())
    sums[2].add_((lower < classes - 5).sum())
    sums[3].add_(len(labels))
