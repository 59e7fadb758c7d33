"""recipe.stop_patience: a training ends when its validation error has stopped falling, once, and says why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import EPOCH, Workspaces, assert_same_training, checkpoint, metrics, no_more, run_folder, train

from pipeline.atomic import read_json, write_json
from pipeline.learn.training.classifier import Classifier
from pipeline.record import from_json

PATIENT = ("recipe.max_steps=200", "recipe.stop_patience=2", "recipe.lr=0.1")
BEST, END = 2 * EPOCH, 4 * EPOCH  # the second validation is the best, two more follow
WHY = f"2 validations without a lower val/err1 than at step {BEST} (recipe.stop_patience=2)"


@pytest.fixture(autouse=True)
def errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validations err by 50, 40, 40, 45, 30, ... % whatever the net has learned."""

    whole = Classifier.on_validation_epoch_end

    def ended(self: Classifier) -> None:
        error = {1: 50, 2: 40, 3: 40, 4: 45}.get(self.global_step // EPOCH, 30)
        self._val_sums = torch.tensor([1.0, error, 0.0, 100.0], dtype=torch.float64)
        whole(self)

    monkeypatch.setattr(Classifier, "on_validation_epoch_end", ended)


@pytest.fixture
def whole(workspace: Workspaces) -> Path:
    root = workspace()
    train(root, *PATIENT)
    return root


def test_it_ends_after_that_many_validations_and_the_finished_run_says_why(
    capsys: pytest.CaptureFixture[str], whole: Path
) -> None:
    assert f"ended at step {END} of 200, {WHY}" in capsys.readouterr().err
    run = read_json(run_folder(whole) / "run.json")
    net = from_json(run["net"])
    assert (run["status"], net.complete, net.steps, net.step, net.ended) == ("finished", True, END, BEST, WHY)
    assert list(metrics(whole, "val/err1")) == [EPOCH, 2 * EPOCH, 3 * EPOCH, END]
    assert train(whole, *PATIENT, report=no_more) == net  # nothing is left to do


def test_broken_off_and_resumed_it_ends_at_the_same_step(whole: Path, workspace: Workspaces) -> None:
    root = workspace()
    for steps in (EPOCH, 2 * EPOCH, 3 * EPOCH):
        assert not train(root, *PATIENT, report=no_more).complete and checkpoint(root)["global_step"] == steps
    assert train(root, *PATIENT, report=no_more).ended == WHY  # the report stops it at its own end
    assert_same_training(root, whole)


def test_a_run_that_ended_without_its_result_gets_it_without_training(whole: Path) -> None:
    path = run_folder(whole) / "run.json"
    run = read_json(path)
    write_json(path, {**run, "status": "running", "net": None})
    net = train(whole, *PATIENT, report=no_more)
    assert (net.complete, net.steps, net.ended) == (True, END, WHY)
    assert checkpoint(whole)["global_step"] == END


def test_without_the_key_it_trains_on(workspace: Workspaces) -> None:
    net = train(workspace(), "recipe.max_steps=90")
    assert (net.steps, net.ended) == (90, "")
