"""trainer.callbacks and tracking.loggers: what Hydra's users name by `_target_` works beside the pipeline's own."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from runs import EPOCH, Workspaces, assert_same_training, metrics, no_more, run_folder, train

from pipeline.config.training import NEVER
from pipeline.errors import PipelineError

LOGGERS = "tracking.loggers=[{_target_:pytorch_lightning.loggers.CSVLogger,name:csv},{_target_:pytorch_lightning.loggers.TensorBoardLogger,name:tb}]"
STOPPING = (
    "trainer.callbacks=[{_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val/err1,patience:1,min_delta:1}]"
)


class Noted(pl.Callback):
    """Counts steps, in its state too."""

    last: Noted

    def __init__(self, inner: Any = None) -> None:
        self.steps, self.inner = 0, inner
        Noted.last = self

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps += 1

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.steps = state["steps"]


def test_loggers_get_every_metric_of_the_journal_and_change_nothing(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    train(root, LOGGERS)
    assert_same_training(root, reference)
    with next(run_folder(root).glob("csv/version_0/metrics.csv")).open() as stream:
        rows = list(csv.DictReader(stream))
    for name in ("train/loss", "val/err1"):
        logged = {int(row["step"]): float(row[name]) for row in rows if row[name]}
        assert logged == pytest.approx(metrics(root, name))
    assert list(run_folder(root).glob("tb/version_0/events.out.tfevents*"))


def test_callbacks_are_made_with_their_arguments_keep_their_state_and_make_another_run(
    workspace: Workspaces, reference: Path
) -> None:
    inner = "{_target_:datetime.timedelta,days:2}"
    root, noted = workspace(), f"trainer.callbacks=[{{_target_:{Noted.__module__}.Noted,inner:{inner}}}]"
    train(root, noted, report=no_more)
    train(root, noted)
    assert (Noted.last.steps, Noted.last.inner.days) == (50, 2)
    assert run_folder(root).name != run_folder(reference).name


def test_a_callback_that_stops_a_training_is_named_by_the_finished_run(workspace: Workspaces) -> None:
    net = train(workspace(), STOPPING)
    assert (net.complete, net.steps) == (True, 2 * EPOCH)
    assert net.ended == "a callback of trainer.callbacks stopped it"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("trainer.callbacks=[{monitor:x}]", "entry 0 must name a class, with its arguments beside it"),
        ("trainer.callbacks=[{_target_:no.such.Thing}]", "trainer.callbacks: no.such.Thing cannot be imported"),
        ("trainer.callbacks=[{_target_:datetime.timedelta}]", "datetime.timedelta is no pytorch_lightning.callbacks"),
        ("trainer.callbacks=[{_target_:pytorch_lightning.callbacks.EarlyStopping}]", "refuses its arguments"),
        ("trainer.callbacks=[{_target_:pytorch_lightning.callbacks.ModelCheckpoint}]", "Lightning refuses what"),
        ("tracking.loggers=[{_target_:pytorch_lightning.callbacks.Timer}]", "Timer is no "),
    ],
)
def test_what_cannot_be_made_is_one_sentence(override: str, sentence: str, workspace: Workspaces) -> None:
    with pytest.raises(PipelineError) as refused:
        train(workspace(), override)
    assert sentence in str(refused.value)


class StopsEarly(pl.Callback):
    """Stops at a step, or at the end of the first epoch."""

    def __init__(self, at: int = 0) -> None:
        self._at = at

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop |= trainer.global_step == self._at

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = True


def test_a_training_that_is_stopped_before_its_first_validation_gets_one_or_a_sentence(workspace: Workspaces) -> None:
    root, stops = workspace(), f"_target_:{StopsEarly.__module__}.StopsEarly"
    net = train(root, f"trainer.callbacks=[{{{stops},at:5}}]", "trainer.val_every_epochs=3")
    assert (net.complete, net.steps, net.step) == (True, 5, 5) and net.val_err1 is not None
    at_the_end = f"trainer.callbacks=[{{{stops}}}]"
    with pytest.raises(PipelineError, match=rf"stopped it after step {EPOCH}, before its first validation.*override: "):
        train(root, at_the_end, "trainer.val_every_epochs=3")
    with pytest.raises(PipelineError, match=r"chosen; leave it out \(override: trainer\.callbacks=\[\]\)"):
        train(root, at_the_end, f"trainer.val_every_epochs={NEVER}")  # as a population has it
    assert train(root, at_the_end, "trainer.val_every_epochs=1").steps == EPOCH
