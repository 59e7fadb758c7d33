"""The callback that writes down a training: metrics, checkpoints, the best weights, progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from pipeline.atomic import sha256
from pipeline.learn.training.classifier import Classifier
from pipeline.progress import Progress
from pipeline.run.checkpoint import BEST, LAST, save_weights, snapshot_name
from pipeline.tracking.journal import Journal
from pipeline.tracking.store import SNAPSHOT_TAG


@dataclass(frozen=True)
class Validated:
    """What a report callback hears after a validation, once the checkpoint is on disk."""

    key: str
    step: int
    metrics: dict[str, float]  # val/loss, val/err1, val/err5
    best: dict[str, float]  # the same at the best step, and "step"


Report = Callable[[Validated], None]


class Recorder(pl.Callback):
    """Journal and files of one run; rank zero alone writes, all ranks reduce.

    Args:
        folder: of the run.
        key: of the run; stored in each checkpoint.
        metadata: of best.safetensors: how to build the net.
        journal: None on ranks other than zero.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        metadata: dict[str, Any],
        journal: Journal | None,
        log_every_steps: int,
        checkpoint_every_steps: int,
        report: Report | None = None,
    ) -> None:
        self._folder, self._key, self._metadata, self._journal = folder, key, metadata, journal
        self._log_every, self._checkpoint_every, self._report = log_every_steps, checkpoint_every_steps, report
        self.progress: Progress | None = None
        self._shown = 0  # step up to which progress has advanced
        self.best: dict[str, float] = {}
        self._validated = False

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state["best"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["run_key"] = self._key

    def save_last(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self._folder / LAST, weights_only=False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._shown = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Classifier, *_: Any) -> None:  # type: ignore[override]
        step = trainer.global_step
        if self.progress is not None:
            self.progress.advance(step - self._shown)
            self._shown = step
        if step >= pl_module.recipe.max_steps:
            # Lightning then validates, though the epoch may not be over or not be one of val_every_epochs'.
            trainer.should_stop, trainer.check_val_every_n_epoch = True, 1
        if step % self._log_every == 0 or trainer.should_stop:
            self._write(step, pl_module.take_window())
        # After an epoch's last batch comes its validation, which a run resumed from here would leave out.
        ending = trainer.should_stop or trainer.is_last_batch
        if pl_module.recipe.cycles > 1 and step % (pl_module.recipe.max_steps // pl_module.recipe.cycles) == 0:
            self._snapshot(step, pl_module)
        if self._checkpoint_every and step % self._checkpoint_every == 0 and not ending:
            self.save_last(trainer)

    def _snapshot(self, step: int, pl_module: Classifier) -> None:
        if self._journal is not None:
            path = self._folder / snapshot_name(step)
            save_weights(pl_module.model, path, {**self._metadata, "step": step})
            self._journal.artifact(path, "checkpoints")
            self._journal.tags({f"{SNAPSHOT_TAG}{step}": sha256(path)})

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        step, metrics = trainer.global_step, pl_module.val_metrics
        self._write(step, metrics)
        self._validated = True
        if not self.best or metrics["val/err1"] < self.best["val/err1"]:
            self.best = {"step": step, **metrics}
            if trainer.is_global_zero:
                save_weights(pl_module.model, self._folder / BEST, {**self._metadata, **self.best})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        self.save_last(trainer)
        if self._validated and self._report is not None:
            self._report(Validated(self._key, trainer.global_step, dict(pl_module.val_metrics), dict(self.best)))
        self._validated = False

    def _write(self, step: int, values: dict[str, float]) -> None:
        if self._journal is not None:
            self._journal.metrics(step, values)
        if self.progress is not None:
            self.progress.note(" ".join(f"{name} {value:.4g}" for name, value in values.items()))
