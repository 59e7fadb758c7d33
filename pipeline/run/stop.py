"""Graceful stops: a signal becomes a checkpoint after the current step."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from pipeline.run import Interrupted
from pipeline.run.signals import on_termination

SECOND_SIGINT_S = 1.0  # a SIGINT sooner after the first is its echo
DDP_EVERY = 10  # steps, at least, between all-reduces in which the ranks agree on stopping


class GracefulStop(pl.Callback):
    """On SIGTERM, SIGHUP or SIGINT, to any rank or to all: one checkpoint, then `Interrupted`.

    Lightning's own handler hangs under DDP if a rank other than 0, or all of them, get the signal. Here the ranks agree
    on stopping by an all-reduce. A second SIGINT ends the process at once, unless it follows within SECOND_SIGINT_S:
    under torchrun, one Ctrl-C arrives twice, from the terminal and from torchrun.

    Args:
        save: writes the checkpoint.
        asked: whether something other than a signal wants the training to stop; called at each step.
    """

    def __init__(self, save: Callable[[pl.Trainer], None], asked: Callable[[], bool]) -> None:
        self._save, self._ask, self._asked, self._first, self._agreed = save, asked, False, 0.0, 0

    def _handle(self, number: int, _: Any) -> None:
        if not self._asked:
            self._asked, self._first = True, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._first > SECOND_SIGINT_S:
            raise KeyboardInterrupt

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._agreed = trainer.global_step
        # Earlier, Lightning would chain its own handler behind ours. Ray's trials run in threads, which get no signals.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._handle)
            on_termination(self._handle)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        # A run resumed from an epoch's last batch would skip the validation that follows it.
        soon = trainer.world_size > 1 and trainer.global_step < self._agreed + DDP_EVERY
        if trainer.should_stop or trainer.is_last_batch or soon:
            return
        self._agreed = trainer.global_step
        if trainer.strategy.reduce_boolean_decision(self._asked or self._ask(), all=False):
            self._save(trainer)
            self._end(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The recorder runs before this callback and has saved; a training that is over ends as usual.
        asked = self._asked or self._ask()
        if not trainer.should_stop and trainer.strategy.reduce_boolean_decision(asked, all=False):
            self._end(trainer)

    def _end(self, trainer: pl.Trainer) -> None:
        trainer.strategy.barrier()
        raise Interrupted(f"stopped at step {trainer.global_step}")
