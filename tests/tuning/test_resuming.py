"""The scheduler and the record of trials, without Ray's processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nets import make_model

from pipeline.atomic import write_json
from pipeline.config import BudgetConfig
from pipeline.run import RUN
from pipeline.tuning.console import TrialLines
from pipeline.tuning.ending import Ending, ask
from pipeline.tuning.resuming import Recording, ResumedASHA, bracket_of, brackets
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


def test_a_trial_that_sees_the_request_to_stop_before_its_sweep_does_is_trained_again(tmp_path: Path) -> None:
    trials = Trials(tmp_path / "sweep", POINTS, tmp_path)
    trials.open({})
    ending = Ending(BudgetConfig(), trials)
    recording = Recording(trials, ending, patient=True)
    assert not recording.stop_all()  # the sweep has just looked
    ask(trials.stop)
    result = {"key": "0" * 12, "epoch": 1, "step": 9, "val/err1": 0.1, "best/err1": 0.1}
    trials.report(POINTS[0], result)
    write_json(tmp_path / result["key"] / RUN, {"status": "running"})  # of an earlier attempt, which was killed
    for point in POINTS[:2]:
        trial: Any = SimpleNamespace(config={POINT: point})
        recording.on_trial_complete(0, [trial], trial)
    assert [trial.status for trial in trials.all[:2]] == ["unfinished"] * 2
    assert recording.stop_all()


LOST = """ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.
\tpid: 122
\tip: 10.77.0.4
The actor died because its node has died. Node Id: b6afd6
\tthe actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats
"""
GONE = """ray.exceptions.ActorUnavailableError: The actor 52f9 is unavailable: The actor is temporarily unavailable
"""
OWN = """ray::ImplicitFunc.train() (pid=7, ip=10.77.0.5, actor_id=b3)
RuntimeError: no such luck
"""


@pytest.mark.parametrize(
    ("text", "allowed", "host", "why"),
    [
        (LOST, 3, "10.77.0.4", "health check failed"),
        (GONE, 3, "10.77.0.6", "temporarily unavailable"),
        (OWN, 2, "10.77.0.5", "RuntimeError: no such luck"),
        (
            f"Failure # 1 (occurred at noon)\n{LOST}\nFailure # 2 (occurred later)\n{OWN}",
            2,
            "10.77.0.5",
            "no such luck",
        ),
    ],
)
def test_a_lost_machine_is_no_failure_of_its_trial(text, allowed, host, why, tmp_path: Path, capsys) -> None:
    (tmp_path / "error.txt").write_text(text)
    trials = Trials(tmp_path / "sweep", POINTS, tmp_path)
    trial: Any = SimpleNamespace(
        error_file=tmp_path / "error.txt",
        config={POINT: POINTS[0]},
        max_failures=2,
        last_result={"node_ip": "10.77.0.6"},
    )
    Recording(trials, None, patient=True).on_trial_recover(0, [trial], trial)
    assert trial.max_failures == allowed
    assert why in trials.of(POINTS[0]).failure and trials.of(POINTS[0]).host == host
    TrialLines("sweep", 1, 0, 1_000, {}, make_model(8).score).on_trial_recover(0, [trial], trial)
    line = capsys.readouterr().out
    assert f"failed on {host}: " in line and why in line and line.endswith("goes on from its last checkpoint\n")
