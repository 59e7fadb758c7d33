"""Trainings that were killed, cut off or stopped end as an unbroken one does."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from processes import Command
from runs import (
    EPOCH,
    TINY,
    PowerCut,
    Workspaces,
    assert_same_training,
    assert_tracked_as,
    checkpoint,
    composed,
    cut,
    events,
    metrics,
    metrics_in,
    no_more,
    run_folder,
    tracked,
    train,
    weights,
)

from pipeline.atomic import read_json, write_json
from pipeline.learn.training.classifier import Classifier
from pipeline.record import from_json
from pipeline.run import Interrupted
from pipeline.run.fit import fit
from pipeline.run.recorder import Recorder, Validated
from pipeline.tracking.location import ERROR_TAG
from pipeline.tracking.replay import replay

SLOW = pytest.mark.slow


def killed_on_the_way(root: Path, steps: list[int], *overrides: str) -> None:
    """Starts a training again each time that it has been killed, the last time to its end."""
    for step in steps:
        command = Command(root, "train", *TINY, *overrides).at_step(step)
        command.signal(signal.SIGKILL)
        assert command.wait() == -signal.SIGKILL, command.output
    Command(root, "train", *TINY, *overrides).succeed()


def tags_of(root: Path) -> dict[str, str | None]:
    return replay(events(root), run_folder(root)).tags


# Without checkpoints inside an epoch, a training starts again at its epoch's start and passes later steps again.
@pytest.mark.parametrize(
    ("every", "seed"),
    [(4, 0), *(pytest.param(every, seed, marks=SLOW) for every in (0, 1, 4, EPOCH) for seed in range(1, 6))],
)
def test_whenever_a_training_is_killed_it_ends_in_the_same_weights_and_one_run(
    every: int, seed: int, workspace: Workspaces, reference: Path
) -> None:
    root, chance = workspace(), random.Random(seed)
    steps = sorted(chance.randint(1, 46) for _ in range(3))
    killed_on_the_way(root, steps, f"trainer.checkpoint_every_steps={every}")
    assert_same_training(root, reference)
    assert_tracked_as(root, reference)
    (run,) = tracked(root)
    began = {int(number): step for step, number in run.metrics["attempt"]}  # without those killed before a step
    assert began[1] == 0 and 1 < len(began) <= 4
    assert list(began.values()) == sorted(began.values()) and max(began.values()) <= max(steps)


@pytest.mark.parametrize(
    ("where", "method", "at", "before"),
    [
        pytest.param(Classifier, "training_step", EPOCH, False, marks=SLOW),  # an epoch's last step made, no more
        (Recorder, "on_train_batch_end", EPOCH, False),  # ... and written down
        pytest.param(Recorder, "on_validation_end", 1, True, marks=SLOW),
        (Recorder, "on_validation_end", 1, False),  # best weights on disk, which the last checkpoint does not know
        pytest.param(Recorder, "on_train_epoch_end", 1, False, marks=SLOW),
        (Recorder, "on_train_batch_end", 50, False),  # training over, its validation is not
        pytest.param(Recorder, "on_validation_end", 3, False, marks=SLOW),
        pytest.param(Recorder, "on_train_epoch_end", 3, False, marks=SLOW),  # all done but the result
    ],
)
def test_no_moment_is_a_bad_one_to_lose_power(
    where: type, method: str, at: int, before: bool, workspace: Workspaces, reference: Path
) -> None:
    root = workspace()
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(PowerCut):
        cut(monkeypatch, where, method, at, before)
        train(root, f"trainer.checkpoint_every_steps={EPOCH}")
    assert train(root, f"trainer.checkpoint_every_steps={EPOCH}").complete
    assert_same_training(root, reference)
    for key in ("val/err1", "train/loss", "best_val_err1", "weights/growth_median", "weights/growth_first"):
        assert metrics(root, key) == metrics(reference, key)


@pytest.mark.parametrize("at", [1, 2])  # without and with a validation
def test_a_training_goes_on_from_the_end_of_an_epoch_with_the_next(
    at: int, workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = workspace(), workspace()
    train(whole, "trainer.val_every_epochs=2")
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut(patch, Recorder, "on_train_epoch_end", at, False)
        train(broken, "trainer.val_every_epochs=2")
    steps, make_steps = [], Classifier.training_step

    def noted(self: Classifier, dataloader_iter: Iterator) -> None:
        steps.append(self.global_step)
        make_steps(self, dataloader_iter)

    monkeypatch.setattr(Classifier, "training_step", noted)
    assert train(broken, "trainer.val_every_epochs=2").complete
    assert steps == list(range(at * EPOCH, 50))
    assert_same_training(broken, whole)
    for key in ("val/err1", "train/loss"):
        assert metrics(broken, key) == metrics(whole, key)


def test_a_finished_run_is_returned_as_it_is(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    shutil.copytree(reference / "runs", root / "runs")
    before = {path.name: path.stat().st_mtime_ns for path in run_folder(root).iterdir()}
    reports: list[Validated] = []
    result = train(root, report=reports.append)
    assert not reports
    assert before == {path.name: path.stat().st_mtime_ns for path in run_folder(root).iterdir()}
    published = from_json(read_json(reference / "experiments" / "digits" / "train.json"))
    assert published == result


def test_a_run_that_ended_without_its_result_gets_it_without_training(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    shutil.copytree(reference / "runs", root / "runs")
    path = run_folder(root) / "run.json"
    run = read_json(path)
    write_json(path, {**run, "status": "running", "net": None})
    result = train(root)
    assert (result.complete, result.steps, result.step) == (True, 50, run["net"]["step"])
    assert_same_training(root, reference)
    assert metrics(root, "train/loss") == metrics(reference, "train/loss")


def test_a_result_is_made_again_from_the_checkpoint_and_what_is_lost_is_not_guessed(
    workspace: Workspaces, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = workspace()
    shutil.copytree(reference / "runs", root / "runs")
    path = run_folder(root) / "run.json"
    expected = from_json(read_json(path)["net"])
    path.write_bytes(path.read_bytes()[:-30])
    lost = {"seconds": None, "processors": (), "images_per_s": 0.0}
    assert train(root) == replace(expected, run_id=train(root).run_id, **lost)
    assert "run.json is damaged" in capsys.readouterr().err


def test_a_changed_configuration_starts_anew_beside_the_old_run(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    shutil.copytree(reference / "runs", root / "runs")
    old, kept = run_folder(root), weights(root)
    new = root / "runs" / train(root, "recipe.lr=0.05", report=no_more).key
    assert new != old
    assert min(metrics_in(new)["train/loss"]) == 1  # from the first step on
    assert (old / "best.safetensors").read_bytes() == kept != (new / "best.safetensors").read_bytes()


def test_a_training_that_is_asked_to_stop_saves_a_checkpoint_and_goes_on(
    workspace: Workspaces, reference: Path
) -> None:
    root, answers = workspace(), iter([*[False] * 20, True])
    with pytest.raises(Interrupted, match="stopped at step 21"):
        fit(composed(root, *TINY), root / "data/store/digits", asked=lambda: next(answers), track=False)
    assert read_json(run_folder(root) / "run.json")["status"] == "interrupted"
    assert checkpoint(root)["global_step"] == 21
    assert tags_of(root)[ERROR_TAG] == "Interrupted: stopped at step 21"
    assert train(root).complete and tags_of(root)[ERROR_TAG] is None
    assert_same_training(root, reference)


def test_a_training_that_a_scheduler_stopped_is_whole_and_can_go_on(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    first = train(root, report=no_more)
    assert (first.complete, first.steps, first.step) == (False, EPOCH, EPOCH)
    assert read_json(run_folder(root) / "run.json")["status"] == "stopped"
    second = train(root)
    assert second.complete and second.seconds > first.seconds > 0  # of both attempts
    assert_same_training(root, reference)


def test_whether_steps_are_compiled_is_decided_once_for_a_training(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, decided = workspace(), []
    monkeypatch.setattr("pipeline.run.fit.compiles", lambda *asked: bool(decided.append(asked[-1])))
    train(root, report=no_more)
    train(root)
    assert decided == [None, False]


@pytest.mark.parametrize(
    ("recorded", "processors"),
    [
        (True, ("1 thread", "2 threads")),
        (False, ()),  # begun by a version that did not say what its seconds were spent on
    ],
)
def test_the_seconds_of_all_attempts_come_with_their_threads(
    workspace: Workspaces, recorded: bool, processors: tuple[str, ...]
) -> None:
    root = workspace()
    assert train(root, "trainer.threads=1", report=no_more).processors == ("1 thread",)
    run = read_json(run_folder(root) / "run.json")
    write_json(run_folder(root) / "run.json", run if recorded else {**run, "processors": []})
    assert train(root, "trainer.threads=2").processors == processors


def test_an_attempt_that_made_no_step_leaves_the_threads_of_the_next_one_known(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace()
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut(patch, Recorder, "on_train_start", 1, before=True)
        train(root, "trainer.threads=1")
    assert read_json(run_folder(root) / "run.json")["seconds"] > 0
    assert train(root, "trainer.threads=2", report=no_more).processors == ("2 threads",)


def test_a_resumed_training_keeps_the_best_weights_of_before(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace()

    def worse_and_worse(self: Classifier) -> None:
        self.val_metrics = {"val/loss": 1.0, "val/err1": self.global_step / 100, "val/err5": 0.0}

    monkeypatch.setattr(Classifier, "on_validation_epoch_end", worse_and_worse)
    train(root, report=no_more)
    best = weights(root)
    result = train(root)
    assert (result.complete, result.step, result.val_err1) == (True, EPOCH, EPOCH / 100)
    assert weights(root) == best


def test_a_resumed_training_drops_what_the_unbroken_one_drops(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dropping(*_: object) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(64, 10))

    monkeypatch.setattr("pipeline.run.fit.build_model", dropping)
    whole, broken, other = workspace(), workspace(), workspace()
    train(whole, "seed=3")
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut(patch, Recorder, "on_train_batch_end", 30, False)
        train(broken, "seed=3", "trainer.checkpoint_every_steps=7")
    torch.manual_seed(99)
    train(broken, "seed=3", "trainer.checkpoint_every_steps=7")
    assert_same_training(broken, whole)
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr("pipeline.learn.training.module.noise_seed", lambda *given: asked.append(given) or 0)
    train(other, "seed=3")
    assert asked == [(3, step, 0) for step in range(50)]
    assert metrics(other, "train/loss") != metrics(whole, "train/loss")
