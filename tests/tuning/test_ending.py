"""What ends a sweep before its last trial."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.atomic import read_json, write_json
from pipeline.config import BudgetConfig
from pipeline.run import RUN
from pipeline.tuning import ending as module
from pipeline.tuning.ending import Asked, Ending, ask
from pipeline.tuning.trials import Trials

POINTS = [{"seed": seed} for seed in range(4)]


def begun(root: Path, steps: int = 0, done: int = 0) -> Trials:
    trials = Trials(root / "sweep", POINTS, root / "runs")
    trials.open({})
    for at in range(done):
        key = f"{at:012x}"
        write_json(root / "runs" / key / RUN, {"status": "finished"})
        trials.report(POINTS[at], {"key": key, "epoch": 1, "step": steps, "val/err1": 0.1, "best/err1": 0.1})
        trials.end(POINTS[at])
    return trials


@pytest.fixture(autouse=True)
def looks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.0)


@pytest.mark.parametrize(
    ("budget", "sentence"),
    [
        (BudgetConfig(), ""),
        (BudgetConfig(trials=3, steps=201, hours=1), ""),
        (BudgetConfig(trials=2), "sweep.budget.trials=2 is spent"),
        (BudgetConfig(steps=200), "sweep.budget.steps=200 is spent"),
        (BudgetConfig(hours=1e-9), "sweep.budget.hours=1e-09 is spent"),
    ],
)
def test_a_budget_that_is_spent_ends_the_sweep_and_asks_its_trials(budget: BudgetConfig, sentence: str, tmp_path: Path):
    trials = begun(tmp_path)
    ending, asked = Ending(budget, trials), Asked(trials.stop)
    if not budget.hours:  # which is never quite unspent
        assert not ending() and not asked()
    for at, trial in enumerate(begun(tmp_path, steps=100, done=2).all):
        trials.all[at].status, trials.all[at].steps = trial.status, trial.steps
    assert (ending(), ending.why, ending.by_budget) == (bool(sentence), sentence, bool(sentence))
    if not budget.hours:
        assert asked() == bool(sentence)
    trials.open({})  # another attempt, with a larger budget: what is left of the request does not end it
    assert not Ending(BudgetConfig(trials=4), trials)() and not Asked(trials.stop)()


def test_a_request_ends_a_sweep_that_has_no_budget(tmp_path: Path):
    trials = begun(tmp_path)
    ending, asked = Ending(BudgetConfig(), trials), Asked(trials.stop)
    assert not ending() and not asked()
    ask(trials.stop)
    assert ending() and asked() and not ending.by_budget
    assert "asked for it (pipeline sweep stop)" in ending.why
    trials.stop.write_bytes(b"torn")
    damaged = Ending(BudgetConfig(), trials)
    assert damaged() and f"{trials.stop} asked for it" in damaged.why
    trials.close("done")
    assert not list((tmp_path / "sweep").glob("stop*"))


def test_a_user_without_an_account_may_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", unknown)
    ask(tmp_path / "stop.json")
    assert read_json(tmp_path / "stop.json")["why"].startswith(f"{os.getuid()} on ")
