"""The LightningModule through which every net trains; `classifier` and `detector` say what a net learns."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import ParallelStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from pipeline.config import RecipeConfig
from pipeline.fast.graphs import GraphedStep, pinned
from pipeline.learn.input.order import noise_seed
from pipeline.learn.training.averaging import average_of, follow
from pipeline.learn.training.counts import Counts
from pipeline.learn.training.divergence import DivergedError, diverged, finite
from pipeline.learn.training.optimisers import optimisers, settle
from pipeline.learn.training.schedule import Patience, Plateau, lr_at, side_at

# Lightning warns of a training_step that takes an iterator, which this one does to make several steps a call.
warnings.filterwarnings("ignore", message=".*`dataloader_iter`")


@dataclass(frozen=True)
class Calls:
    """How Lightning's calls make optimiser steps; beyond rounding, it changes no weights.

    On a GPU, Lightning's own work between two calls takes about as long as a small net's step, so a call makes several.
    """

    steps: int = 1  # at most, in a call
    due: tuple[int, ...] = ()  # a call also ends at multiples of these steps; 0 for none
    compiled: bool = False  # the net is compiled; on a GPU, augmentation and counting then are, too
    graphs: bool = False  # on one GPU, replay steps as CUDA graphs


class TrainingModule(pl.LightningModule, ABC):
    """Trains `model` on the batches of a data module.

    Sums over the training images of all ranks make the metrics, so uneven shares and batch sizes do not matter. Every
    recipe.check_every_steps steps, the module checks its sums: it ends the warm-up by its rule (Sec. 4.2) and raises
    `DivergedError` if the loss is not finite. Logging and checkpoints decide nothing.

    Args:
        seed: of dropout.
        backbone_lr: factor of the learning rate for all layers but the new ones; if 0, batch norm keeps its statistics.
    """

    counted: type[Counts] = Counts
    val_metrics: dict[str, float]  # of the last validation; val/err1 and val/err5 choose, the lowest being the best

    def __init__(
        self,
        model: nn.Module,
        recipe: RecipeConfig,
        calls: Calls = Calls(),
        seed: int = 0,
        backbone_lr: float = 1.0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.recipe = model, recipe
        self.average = average_of(model) if recipe.ema else None
        self.warming, self.plateau, self.patience = recipe.warmup_lr > 0, Plateau(), Patience()
        self.rate = 0.0  # learning rate of the last step
        self.val_metrics = {}
        self._calls, self._due = calls, tuple(filter(None, (*calls.due, recipe.check_every_steps)))
        self._graphed: GraphedStep | None = None
        self._backbone_lr = backbone_lr
        drops = any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p for module in model.modules())
        self._seed = seed if drops else None
        self._finish: Callable[[Sequence[Tensor]], tuple[Tensor, ...]]  # the data module's, once training starts
        self._sums = torch.zeros(4, dtype=torch.float64)
        self._finite = torch.zeros((), dtype=torch.int64)  # steps before the first loss that is not finite
        self._checked = self.counted()

    @property
    def result(self) -> nn.Module:
        """The net that is validated and saved."""
        return self.model if self.average is None else self.average

    @property
    def ended(self) -> str:
        """Why the training ends before recipe.max_steps; "" if it does not."""
        waited, most = self.patience.waited, self.recipe.stop_patience
        if not most or waited < most:
            return ""
        return f"{waited} validations without a lower val/err1 than at step {self.patience.step} (recipe.stop_patience={most})"

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
        self._sums = self._sums.to(self.device)
        if self.trainer.world_size > 1:  # DDP that exchanges none in a step gives none at the start either
            for buffer in self.buffers():
                dist.broadcast(buffer, src=0)
        # No checkpoint was saved after a loss that was not finite.
        self._finite = torch.full((), self.global_step, dtype=torch.int64, device=self.device)
        for optimizer in self.trainer.optimizers:
            settle(optimizer, self.device, cuda=self._on_gpu)
        if self.ended:  # it goes on from its last checkpoint for its result alone
            self.trainer.should_stop = True
        batches = self.trainer.datamodule.batches.to(self.device)  # type: ignore[attr-defined]
        self._finish = batches.finish
        if self._on_gpu and self._calls.compiled:  # fuses a dozen small kernels into one or two
            self._finish = torch.compile(batches.finish, dynamic=False)
        alone = isinstance(self.trainer.strategy, SingleDeviceStrategy)
        if self._calls.graphs and self._on_gpu and alone:
            self._graphed = GraphedStep(self._advance, self.device)

    def release(self) -> None:
        """Frees the device memory that recorded steps hold."""
        self._graphed = None

    def training_step(self, dataloader_iter: Iterator[Any]) -> None:
        """Makes the next steps, and counts them for Lightning, which counts each call as one batch and no step."""
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
            if self.average is not None:  # outside of a recorded step, which would keep the first decay
                follow(self.average, self.model, self.recipe.ema, self.global_step)
            loop.manual_optimization.optim_step_progress.increment_by(1)
        step, last = self.global_step, self.recipe.max_steps
        if step % self.recipe.check_every_steps == 0 or step >= last:
            self._check()
        if step >= last:
            # Makes Lightning validate, even if the epoch is not over or not due by trainer.val_every_epochs.
            self.trainer.should_stop, self.trainer.check_val_every_n_epoch = True, 1

    def _steps_ahead(self) -> int:
        """How many steps the next call may make."""
        step = self.global_step
        return min(self._calls.steps, self.recipe.max_steps - step, *(every - step % every for every in self._due))

    def _set_rate(self, rate: float) -> None:
        self.rate = rate
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate * group["share"])
                else:
                    group["lr"] = rate * group["share"]

    def _advance(self, side: int, batch: Sequence[Tensor]) -> None:
        """One optimiser step, from a batch on the device as the data module fetches it; see `_loss` for `side`."""
        for optimizer in self.trainer.optimizers:
            optimizer.zero_grad()
        count = self.recipe.accumulate
        tensors = len(batch) // count
        strategy = self.trainer.strategy
        for part in range(count):
            loss = self._loss(side, *self._finish(batch[part * tensors : (part + 1) * tensors]))
            waiting: AbstractContextManager[Any] = nullcontext()
            if part + 1 < count and isinstance(strategy, ParallelStrategy):
                # Ranks exchange the gradients of all parts once, with the last backward pass.
                waiting = strategy.block_backward_sync()
            # A backward pass has its forward pass's types.
            with waiting, torch.autocast(self.device.type, enabled=False):
                self.manual_backward(loss / count)
        with torch.no_grad():
            self._finite.add_(self._sums[0].isfinite())
        if self.recipe.clip_norm:  # of the mean over all ranks, which the last backward pass ends with
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        for optimizer in self.trainer.optimizers:
            optimizer.step()

    @abstractmethod
    def _loss(self, side: int, *batch: Any) -> Tensor:
        """Mean loss of a batch that `_finish` made; adds to `_sums`.

        Args:
            side: of the images that the net sees, in pixels; see recipe.small_side.
        """

    def counts(self) -> Counts:
        """Counts since the first step; every rank calls it."""
        return self.counted(*self.trainer.strategy.reduce(self._sums.clone(), reduce_op="sum").tolist())

    def _check(self) -> None:
        counts = self.counts()
        if not math.isfinite(counts.loss):
            raise self._diverged(f"the training loss is {counts.loss}")
        if self.warming and self._warmed(counts):
            self.warming = False
        self._checked = counts

    def require_finite(self) -> None:
        """Raises DivergedError unless losses, weights and optimiser state are finite; every rank calls it before saving."""
        if not math.isfinite(loss := self.counts().loss):
            raise self._diverged(f"the training loss is {loss}")
        states = [state.values() for optimizer in self.trainer.optimizers for state in optimizer.state.values()]
        values = [*self.model.parameters(), *self.model.buffers(), *chain(*states)]
        if not self.trainer.strategy.reduce_boolean_decision(finite(filter(torch.is_tensor, values)), all=True):
            raise self._diverged("weights or the optimiser's state are not finite")

    def _diverged(self, what: str) -> DivergedError:
        """Every rank calls it; on each, its own count of finite losses ends where its loss first was not finite."""
        step = min(int(torch.as_tensor(self.all_gather(self._finite)).min()) + 1, self.global_step)
        rate = lr_at(step - 1, self.recipe, self.warming, self.plateau.drops)
        return diverged(what, step, rate, self.trainer.train_dataloader.images(step - 1).tolist(), self.recipe)  # type: ignore[union-attr]

    def _warmed(self, counts: Counts) -> bool:
        """Whether the training error since the last check ends the warm-up."""
        return False

    def _validated(self, metrics: dict[str, float]) -> None:
        """Takes up a validation's metrics, the same on all ranks; ends the training by recipe.stop_patience."""
        self.val_metrics = metrics
        self.log_dict(metrics, logger=False, sync_dist=True)  # for callbacks that monitor them
        self.plateau.update(metrics["val/err1"], self.recipe)
        if self.recipe.stop_patience:
            self.patience.update(metrics["val/err1"], self.global_step)
            if self.ended:
                self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        sums = torch.as_tensor(self.all_gather(self._sums)).reshape(-1, 4).cpu()  # a row a rank
        state = {"warming": self.warming, "plateau": asdict(self.plateau), "checked": asdict(self._checked)}
        checkpoint["classifier"] = {**state, "sums": sums, "compiled": self._calls.compiled}
        if self.recipe.stop_patience:
            checkpoint["classifier"]["patience"] = asdict(self.patience)
        if self.average is not None:  # apart from the weights, so that others find those alone
            names = [name for name in checkpoint["state_dict"] if name.startswith("average.")]
            checkpoint["classifier"]["average"] = {name: checkpoint["state_dict"].pop(name) for name in names}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["classifier"]
        self.patience = Patience(**state.get("patience", {}))
        checkpoint["state_dict"] |= state.get("average", {})
        self.warming, self.plateau = state["warming"], Plateau(**state["plateau"])
        self._checked, rows = self.counted(**state["checked"]), state["sums"]
        if len(rows) != self.trainer.world_size:  # another number of ranks: the first takes all counts
            rows = torch.cat([rows.sum(0, keepdim=True), torch.zeros(self.trainer.world_size - 1, 4, dtype=rows.dtype)])
        self._sums = rows[self.global_rank].clone()
