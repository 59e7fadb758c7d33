"""The callback that records a training: metrics, checkpoints, the best weights, progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

from pipeline.atomic import sha256
from pipeline.learn.training.module import TrainingModule
from pipeline.progress import Progress
from pipeline.record import Net
from pipeline.run import LAST
from pipeline.run.attempt import Attempt
from pipeline.run.checkpoint_io import begin_next_epoch
from pipeline.run.growth import Growth
from pipeline.run.inputs import Input
from pipeline.run.launch import processors
from pipeline.run.weights import BEST, save_weights, snapshot_name


@dataclass(frozen=True)
class Validated:
    """Argument of a report callback, which is called after a validation once the checkpoint is on disk."""

    key: str
    first_step: int  # at which this attempt began
    step: int
    metrics: dict[str, float]  # val/loss, val/err1, val/err5
    best: dict[str, float]  # the same at the best step, and "step"


Report = Callable[[Validated], None]


class Recorder(pl.Callback):
    """Writes the journal and the files of one run, on rank zero; all ranks reduce. It leaves the training unchanged.

    Args:
        net: the record that the weights are saved with.
        growth: made from the net's first weights.
        input: what the net takes; saved beside the weights.
        report: called after each validation, on every rank.
    """

    def __init__(self, attempt: Attempt, net: Net, growth: Growth, input: Input, report: Report | None = None) -> None:
        trainer = attempt.run.config.trainer
        self._attempt, self._net, self._growth, self._input, self._report = attempt, net, growth, input, report
        self._log_every, self._checkpoint_every = trainer.log_every_steps, trainer.checkpoint_every_steps
        self.progress: Progress | None = None
        self.best: dict[str, float] = {}
        self.snapshots: dict[int, str] = {}  # step -> sha256 of the weights
        self._logged: dict[str, float] = {}  # the counts at the last log line
        self._validated = False

    @property
    def run_name(self) -> str:
        return self._attempt.run.name

    @property
    def net(self) -> Net:
        """The record with the best step so far."""
        best = self.best
        return replace(self._net, step=int(best["step"]), val_err1=best.get("val/err1"), val_err5=best.get("val/err5"))

    def result(self, complete: bool, ended: str) -> Net:
        """The record at the end of an attempt, see `Net.complete` and `Net.ended`."""
        return replace(self.net, complete=complete, ended=ended, snapshots=tuple(self.snapshots.items()))

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "snapshots": self.snapshots, "logged": self._logged}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.snapshots, self._logged = state["best"], state["snapshots"], state["logged"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["run_key"] = self._attempt.run.key

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        begin_next_epoch(checkpoint)

    def save_last(self, trainer: pl.Trainer) -> None:
        trainer.lightning_module.require_finite()  # type: ignore[operator]
        trainer.save_checkpoint(self._attempt.run.folder / LAST, weights_only=False)

    def save_best(self, model: TrainingModule, step: int, metrics: dict[str, float]) -> None:
        """Saves the current weights as the run's result."""
        self.best = {"step": step, **metrics}
        if self._attempt.journal is not None:
            self._save(model, BEST, self.net)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._attempt.begin(trainer.global_step, processors(trainer.world_size, gpus=pl_module.device.type == "cuda"))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: TrainingModule, *_: Any) -> None:  # type: ignore[override]
        step = trainer.global_step
        if trainer.should_stop:  # by a callback: as at the last step, its weights are validated whenever that is due
            trainer.check_val_every_n_epoch = 1
        if self.progress is not None:
            self.progress.advance(step - self._attempt.step)
        self._attempt.step = step
        if step % self._log_every == 0 or trainer.should_stop:
            counts = pl_module.counts()
            earlier = pl_module.counted(**self._logged)
            self._write(trainer, {**counts.since(earlier), "train/lr": pl_module.rate})
            self._logged = asdict(counts)
        if pl_module.recipe.cycles > 1 and step % pl_module.recipe.cycle_steps == 0:
            self._snapshot(step, pl_module)
        # A run resumed from an epoch's last batch would skip the validation that follows it.
        ending = trainer.should_stop or trainer.is_last_batch
        if self._checkpoint_every and step % self._checkpoint_every == 0 and not ending:
            self.save_last(trainer)

    def _snapshot(self, step: int, model: TrainingModule) -> None:
        model.require_finite()
        if self._attempt.journal is not None:
            path = self._attempt.run.folder / snapshot_name(step)
            net = replace(self._net, step=step, steps=step, snapshot=step)
            self._save(model, path.name, net)
            self._attempt.journal.artifact(path, "checkpoints")
            self.snapshots[step] = sha256(path)

    def _save(self, model: TrainingModule, name: str, net: Net) -> None:
        save_weights(model.result, self._attempt.run.folder / name, net, self._attempt.require, input=self._input)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: TrainingModule) -> None:  # type: ignore[override]
        # With statistics per rank, each rank's own would validate its share of the images, and rank zero's are saved. The
        # training step that follows takes rank zero's anyway, see DDP's broadcast_buffers.
        if trainer.world_size > 1 and not self._attempt.run.config.trainer.sync_batchnorm:
            for buffer in pl_module.result.buffers():
                dist.broadcast(buffer, src=0)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: TrainingModule) -> None:  # type: ignore[override]
        pl_module.require_finite()
        step, metrics = trainer.global_step, pl_module.val_metrics
        self._write(trainer, metrics)
        if self._attempt.journal is not None:
            self._attempt.journal.metrics(step, self._growth.metrics(pl_module.model))
        self._validated = True
        if not self.best or metrics["val/err1"] < self.best["val/err1"]:
            self.save_best(pl_module, step, metrics)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: TrainingModule) -> None:  # type: ignore[override]
        self.save_last(trainer)
        if self._validated:
            # run.json is up to date at each validation, so a kill loses at most the seconds since then.
            self._attempt.write("running")
            if self._report is not None:
                step, metrics = trainer.global_step, dict(pl_module.val_metrics)
                attempt = self._attempt
                self._report(Validated(attempt.run.key, attempt.first_step, step, metrics, dict(self.best)))
        self._validated = False

    def _write(self, trainer: pl.Trainer, values: dict[str, float]) -> None:
        if self._attempt.journal is not None:
            self._attempt.journal.metrics(trainer.global_step, values)
        for logger in trainer.loggers:  # they see to rank zero themselves
            logger.log_metrics(values, trainer.global_step)
        if self.progress is not None:
            self.progress.note(" ".join(f"{name} {value:.4g}" for name, value in values.items()))
