from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
from nets import make_detector, make_model

from pipeline.tuning import console
from pipeline.tuning.console import TrialLines
from pipeline.tuning.leaderboard import show
from pipeline.tuning.space import POINT


class Trial(SimpleNamespace):
    """What the display reads of one of Tune's trials."""

    def is_finished(self) -> bool:
        return self.status in ("TERMINATED", "ERROR")

    def __str__(self) -> str:
        return self.name


def make_trial(name: str, *, step: int = 0, status: str = "RUNNING", **point: object) -> Trial:
    return Trial(
        name=name, trial_id=name, status=status, config={POINT: point}, last_result={"step": step, "best/err1": 0.2}
    )


def display(trials: list[Trial], *, total: int, done: int = 0) -> TrialLines:
    lines = TrialLines("sweep", total, done, 1_000, {"CPU": 2, "GPU": 0}, make_model(8).score)
    lines.on_step_begin(0, trials)
    return lines


def test_a_trial_counts_by_the_share_of_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [make_trial("a"), make_trial("b", **{"recipe.max_steps": 500})]
    lines = display(trials, total=2)
    for trial in trials:
        trial.last_result["step"] = 250
        lines.on_trial_result(0, trials, trial, {"best/err1": 0.2})
    lines.on_experiment_end(trials)
    bar = capsys.readouterr().err
    assert bar.startswith("sweep: 0.75/2 trials, ") and "best validation error 20.00 %" in bar


def test_a_trial_that_was_stopped_early_counts_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [make_trial("a"), make_trial("b")]
    lines = display(trials, total=2)
    trials[0].last_result["step"] = 300
    lines.on_trial_complete(0, trials, trials[0])  # before Tune calls it terminated
    trials[0].status = "TERMINATED"
    lines.on_experiment_end(trials)
    printed = capsys.readouterr()
    assert printed.err.startswith("sweep: 1/2 trials, ")
    assert printed.out == "a: validation error 20.00 % after 300 steps\n"


def test_a_trial_that_diverged_is_told_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    trial = make_trial("a", step=400)
    lines = display([trial], total=1)
    trial.last_result |= {"step": 0, "best/err1": 1.0, "error": "the training loss is nan at step 417"}
    lines.on_trial_complete(0, [trial], trial)
    assert capsys.readouterr().out == "a diverged: the training loss is nan at step 417\n"


def test_a_trial_that_failed_for_good_counts_and_the_bar_never_falls(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [make_trial("a", step=400), make_trial("b", step=500)]
    lines = display(trials, total=2)
    trials[0].last_result["step"] = 0  # what a diverged trial says last
    lines.on_trial_result(0, trials, trials[0], {})
    trials[1].status = "ERROR"
    lines.on_experiment_end(trials)
    assert capsys.readouterr().err.startswith("sweep: 1.40/2 trials, ")


def test_what_an_earlier_part_of_the_sweep_made_counts_from_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [make_trial("b", step=500)]
    display(trials, total=3, done=1).on_experiment_end(trials)
    assert capsys.readouterr().err.startswith("sweep: 1.50/3 trials, 0.0 trials/h")


def test_what_runs_had_made_before_the_sweep_took_them_up_is_no_speed(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [make_trial("a"), make_trial("b")]
    lines = display(trials, total=2)
    trials[0].last_result |= {"step": 1_000, "from_step": 1_000}  # a finished run
    lines.on_trial_complete(0, trials, trials[0])
    trials[1].last_result |= {"step": 600, "from_step": 600}
    lines.on_trial_result(0, trials, trials[1], {})
    lines.on_experiment_end(trials)
    assert capsys.readouterr().err.startswith("sweep: 1.60/2 trials, 0.0 trials/h")


def test_tune_can_save_it_while_it_is_shown() -> None:
    lines = display([make_trial("a")], total=1)
    copy = pickle.loads(pickle.dumps(lines))
    lines.on_experiment_end([])
    copy.on_step_begin(0, [])
    copy.on_experiment_end([])


def test_a_sweep_that_waits_for_room_says_so_each_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(console.ray, "available_resources", lambda: {"CPU": 1.0})
    trials = [make_trial("a", status="PENDING"), make_trial("b", status="PENDING")]
    lines, said = display(trials, total=2), []
    for now[0] in range(0, 250, 10):
        trials[0].status = "RUNNING" if now[0] in (100, 110) else "PENDING"
        lines.on_step_begin(0, trials)
        said += [now[0]] * capsys.readouterr().out.count("a trial needs 2 CPU on one machine; free are 1 CPU, 0 GPU\n")
    assert said == [60, 170, 230]


@pytest.mark.parametrize(
    ("model", "column", "value"),
    [(make_model(8), "validation error", "88.86 %"), (make_detector(), "validation AP", "11.1 %")],
)
def test_trials_are_told_by_error_or_by_ap(model, column, value, capsys):
    trial = {"name": "lr 0.1", "val_err1": 0.8886, "steps": 60, "status": "finished", "key": "0" * 12}
    show({"sweep": "sweep-1", "trials": [trial, {**trial, "val_err1": None}]}, model)
    table = capsys.readouterr().out
    assert column in table and value in table
    TrialLines("sweep", 1, 0, 60, {}, model.score).on_trial_complete(0, [], ended := make_trial("lr 0.1", step=60))
    assert f"{ended}: {column} {model.score(0.2).split(maxsplit=1)[1]} after 60 steps" in capsys.readouterr().out
