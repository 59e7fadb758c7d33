"""The trials of a sweep as it goes on, without Ray's processes."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from pipeline.atomic import write_json
from pipeline.config import BudgetConfig
from pipeline.run import RUN
from pipeline.tuning.ending import Ending
from pipeline.tuning.resuming import Recording, ResumedASHA
from pipeline.tuning.space import POINT
from pipeline.tuning.state import NAME, About, read
from pipeline.tuning.trials import Trials

POINTS = [{"recipe.lr": lr, "model.depth": 8} for lr in (0.4, 0.2, 0.1, 0.05)]


def opened(root: Path) -> Trials:
    return Trials(root / "sweep", POINTS, root / "runs")


def report(trials: Trials, at: int, val_err1: float, epoch: int = 1, **more: Any) -> None:
    values = {
        "key": f"{at:012x}",
        "epoch": epoch,
        "step": 17 * epoch,
        "val/err1": val_err1,
        "best/err1": val_err1,
        **more,
    }
    trials.report(POINTS[at], values)


def run_is(root: Path, at: int, status: str) -> None:
    folder = root / "runs" / f"{at:012x}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RUN, {"status": status})


def statuses(trials: Trials) -> list[str]:
    return [trial.status for trial in trials.all]


def test_what_has_ended_is_not_left_and_what_was_interrupted_or_failed_is(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    assert trials.left == POINTS
    for at, status in enumerate(("finished", "stopped", "running")):
        report(trials, at, 0.1 * (at + 1))
        run_is(tmp_path, at, status)
    trials.end(POINTS[0])
    trials.end(POINTS[1])
    trials.fail(POINTS[3], "no memory", "node7", for_good=True)
    trials = opened(tmp_path)
    assert statuses(trials) == ["finished", "stopped", "unfinished", "failed"] and trials.left == POINTS[2:]
    assert [trial.val_err1 for trial in trials.all] == [0.1, 0.2, pytest.approx(0.3), None]
    report(trials, 3, 1.0, epoch=0, key="", error="the loss is NaN")
    trials.end(POINTS[3])
    assert statuses(opened(tmp_path))[3] == "diverged"


def test_a_trial_that_diverged_keeps_its_run_and_the_steps_that_it_made(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    report(trials, 0, 0.5, epoch=2)
    report(trials, 0, 1.0, epoch=0, step=0, key="", error="the loss is NaN")
    trials.end(POINTS[0])
    kept = opened(tmp_path)
    assert (kept.all[0].status, kept.all[0].key, kept.all[0].val_err1) == ("diverged", "0" * 12, 1.0)
    assert kept.steps == 34


def test_a_finished_trial_whose_run_is_gone_trains_again(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    report(trials, 0, 0.1)
    run_is(tmp_path, 0, "finished")
    trials.end(POINTS[0])
    trials.settle()
    trials.write()
    assert opened(tmp_path).left == POINTS[1:]
    (tmp_path / "runs" / f"{0:012x}" / RUN).unlink()
    assert opened(tmp_path).left == POINTS


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b"3",
        b'{"trials": 5}',
        b'{"trials": [5]}',
        b'{"trials": [{}]}',
        b"[" * 100_000,
        *(
            json.dumps({"trials": [{"point": POINTS[0], "reports": [], "status": "finished", **odd}]}).encode()
            for odd in ({"key": "../../etc"}, {"steps": "many"}, {"reports": [[1, "low"]]}, {"more": 1}, {"point": 3})
        ),
    ],
    ids=range(13),
)
def test_a_file_that_is_not_understood_is_told_and_all_is_left(content: bytes, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / NAME).write_bytes(content)
    trials = opened(tmp_path)
    assert trials.left == POINTS
    assert content in (b"[]",) or str(tmp_path / "sweep" / NAME) in capsys.readouterr().err
    trials.write()
    assert opened(tmp_path).left == POINTS


def test_what_ends_with_its_sweep_is_unfinished_unless_it_came_to_its_end(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    for at, status in enumerate(("finished", "interrupted", "running")):
        report(trials, at, 0.1)
        run_is(tmp_path, at, status)
        trials.leave(POINTS[at])
    report(trials, 3, 1.0, epoch=0, key="", error="the loss is NaN")
    trials.leave(POINTS[3])
    assert statuses(opened(tmp_path)) == ["finished", "unfinished", "unfinished", "diverged"]


def test_what_left_before_its_sweep_knew_of_the_end_is_unfinished(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    report(trials, 0, 0.1)
    run_is(tmp_path, 0, "interrupted")
    for point in POINTS[:2]:  # the second one has not reported yet
        trials.end(point)
    assert statuses(opened(tmp_path)) == ["unfinished"] * 4


def test_a_failure_keeps_its_sentence_and_host_until_the_trial_reports_again(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    report(trials, 0, 0.3, hostname="node3")
    trials.fail(POINTS[0], "a node was lost", "", for_good=False)
    trials.fail(POINTS[1], "no memory", "node7", for_good=True)
    kept = read(tmp_path / "sweep" / NAME).trials
    assert [(t.status, t.failure, t.host, t.over > 0) for t in kept[:2]] == [
        ("unfinished", "a node was lost", "node3", False),
        ("failed", "no memory", "node7", True),
    ]
    trials = opened(tmp_path)
    trials.open({})
    assert statuses(trials) == ["unfinished"] * 4 and trials.of(POINTS[1]).failure == "no memory"
    report(trials, 1, 0.2)
    assert trials.of(POINTS[1]).failure == ""


def test_hours_and_steps_are_those_of_all_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1e9]
    monkeypatch.setattr("pipeline.tuning.trials.time.time", lambda: now[0])
    for _ in range(3):
        trials = opened(tmp_path)
        now[0] += 86_400  # between attempts
        trials.open({"hours": 9.0})
        now[0] += 3_600
        trials.write()  # then the process is killed
    assert trials.hours == pytest.approx(3.0)
    trials.close("done")
    now[0] += 86_400
    assert opened(tmp_path).hours == pytest.approx(3.0)


def test_a_searcher_adds_trials_and_they_are_there_when_the_sweep_goes_on(tmp_path: Path) -> None:
    def suggesting() -> Trials:
        return Trials(tmp_path / "sweep", None, tmp_path / "runs", About(sweep="sweep-1", size=9))

    trials = suggesting()
    trials.write()
    assert suggesting().all == []
    for point in POINTS[:2]:
        trials.add(point)
    assert suggesting().left == POINTS[:2] and suggesting().number(POINTS[1]) == 1


SETTINGS = {
    "time_attr": "epoch",
    "metric": "val/err1",
    "mode": "min",
    "max_t": 9,
    "grace_period": 1,
    "reduction_factor": 2,
}


def decisions(scheduler: ASHAScheduler, at: int, errors: dict[int, float], name: str) -> list[str]:
    trial = SimpleNamespace(trial_id=name, config={POINT: POINTS[at]})
    scheduler.on_trial_add(None, trial)
    return [scheduler.on_trial_result(None, trial, {"epoch": e, "val/err1": v}) for e, v in errors.items()]


def test_asha_decides_after_an_interruption_as_without_one(tmp_path: Path) -> None:
    errors = [{1: 0.30, 2: 0.20}, {1: 0.35}, {1: 0.10, 2: 0.25, 4: 0.09}, {1: 0.32}]
    whole = ASHAScheduler(**SETTINGS)
    expected = [decisions(whole, at, values, f"trial-{at}") for at, values in enumerate(errors)]
    assert expected[1][-1] == expected[3][-1] == TrialScheduler.STOP and expected[2][0] == TrialScheduler.CONTINUE
    trials = opened(tmp_path)
    for at, epochs in ((0, (1, 2)), (1, (1,)), (2, (1,))):  # the third was interrupted after its first epoch
        for epoch in epochs:
            report(trials, at, errors[at][epoch], epoch)
    run_is(tmp_path, 0, "finished")
    run_is(tmp_path, 1, "stopped")
    trials.end(POINTS[0])
    trials.end(POINTS[1])
    trials = opened(tmp_path)
    resumed = ResumedASHA(trials, **SETTINGS)
    assert decisions(resumed, 2, {2: 0.25, 4: 0.09}, "again-2") == expected[2][1:]
    assert decisions(resumed, 3, errors[3], "again-3") == expected[3]
    assert [sorted(rung.values()) for _, rung in resumed._brackets[0]._rungs] == [
        sorted(rung.values()) for _, rung in whole._brackets[0]._rungs
    ]


def test_tune_can_pickle_what_it_calls_though_a_claim_cannot_be_pickled(tmp_path: Path) -> None:
    trials = Trials(tmp_path / "sweep", POINTS, tmp_path / "runs", require=threading.Lock().locked)
    ending = Ending(BudgetConfig(), trials, storage=f"file://{tmp_path}/storage")
    for called in (Recording(trials, ending, patient=True), ResumedASHA(trials, time_attr="epoch")):
        assert cloudpickle.dumps(called)
