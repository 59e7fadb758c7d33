"""Hyperband's brackets, without Ray's processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.atomic import write_json
from pipeline.run import RUN
from pipeline.tuning.resuming import ResumedASHA, bracket_of, brackets
from pipeline.tuning.space import POINT
from pipeline.tuning.trials import Trials

POINTS = [{"recipe.lr": 0.001 * (at + 1)} for at in range(30)]
SETTINGS = {"time_attr": "epoch", "metric": "val/err1", "mode": "min", "max_t": 10, "grace_period": 1}


@pytest.mark.parametrize(
    ("horizon", "grace", "factor", "count"), [(9, 1, 3, 3), (8, 1, 3, 2), (81, 1, 3, 5), (5, 5, 2, 1)]
)
def test_there_is_a_bracket_for_each_rung_at_which_trials_can_first_stop(horizon, grace, factor, count):
    assert brackets(horizon, grace, factor) == count
    assert len(ResumedASHA(None, **SETTINGS | {"max_t": horizon + 1}, brackets=count)._brackets) == count


def test_trials_are_spread_over_brackets_as_hyperband_does():
    # R = 81, eta = 3: 81, 34, 15, 8 and 5 trials begin in its five brackets (Li et al. 2018, Algorithm 1).
    for number in (143, 1430):
        counts = Counter(bracket_of(at, 5, 3) for at in range(number))
        assert [counts[at] for at in range(5)] == pytest.approx([number / 143 * n for n in (81, 34, 15, 8, 5)], abs=2)
    assert {bracket_of(at, 1, 3) for at in range(50)} == {0}


def error(at: int, epoch: int) -> float:
    """Of trial `at`: the ranking changes from epoch to epoch."""
    return 0.1 + 0.8 * ((at * 37 + epoch * 11) % 30) / 30


def decide(scheduler: ResumedASHA, trials: Trials, ats: range, root: Path) -> dict[int, int]:
    """The epoch at which each trial was stopped, 9 if it came to its end; its reports are kept."""
    stopped = {}
    for at in ats:
        trial: Any = SimpleNamespace(trial_id=f"trial-{at}", config={POINT: POINTS[at]})
        scheduler.on_trial_add(None, trial)
        for epoch in range(1, 10):
            result = {"epoch": epoch, "val/err1": error(at, epoch), "best/err1": error(at, epoch), "step": epoch}
            decision = scheduler.on_trial_result(None, trial, result)
            trials.report(POINTS[at], {**result, "key": f"{at:012x}"})
            stopped[at] = epoch
            if decision == "STOP":
                break
        status = "finished" if stopped[at] == 9 else "stopped"
        write_json(root / f"{at:012x}" / RUN, {"status": status})
        trials.end(POINTS[at])
    return stopped


def test_hyperband_decides_after_an_interruption_as_without_one(tmp_path: Path) -> None:
    def begun(name: str) -> tuple[ResumedASHA, Trials]:
        trials = Trials(tmp_path / name, POINTS, tmp_path)
        return ResumedASHA(trials, **SETTINGS, reduction_factor=3, brackets=3), trials

    scheduler, trials = begun("whole")
    whole = decide(scheduler, trials, range(30), tmp_path)
    assert len(set(whole.values())) > 2  # trials are stopped at several rungs
    scheduler, trials = begun("parts")
    first = decide(scheduler, trials, range(17), tmp_path)
    scheduler, trials = begun("parts")
    assert {**first, **decide(scheduler, trials, range(17, 30), tmp_path)} == whole
