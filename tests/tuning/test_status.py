"""`pipeline sweep status` on the folders of sweeps."""

from __future__ import annotations

import os
import re
import resource
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from imports import ROOT
from runs import Workspaces, composed

from pipeline.atomic import write_json
from pipeline.cli import main
from pipeline.run import RUN
from pipeline.run.shared import objects_of
from pipeline.storage.board import SPAN
from pipeline.storage.copy import LIST, Copy
from pipeline.tuning import trials as module
from pipeline.tuning.state import About, Attempt, State, Trial
from pipeline.tuning.status import Watched, lines, watched
from pipeline.tuning.trials import Trials
from pipeline.tuning.tuner import sweeps

POINTS = [{"recipe.lr": 0.01 * (at + 1)} for at in range(6)]


def begun(
    runs: Path, name: str, data: str = "digits", budget: dict[str, float] | None = None, detects: bool = False
) -> Trials:
    """A sweep of six trials that this process runs: one has finished, one failed, one trains."""
    of = About(sweep=name, data=data, size=6, max_steps=100, num_val=150, detects=detects)
    trials = Trials(runs / name, POINTS, runs, of)
    trials.open(budget or {})
    for at, steps in ((0, 100), (1, 0), (2, 50)):
        trials.begin(POINTS[at], f"lr {at}")
        result = {"key": f"{at:012x}", "epoch": 1, "step": steps, "val/err1": 0.3, "best/err1": 0.3 - 0.1 * at}
        trials.report(POINTS[at], {**result, "hostname": "node1"})
    write_json(runs / f"{0:012x}" / RUN, {"status": "finished"})
    trials.all[0].status = "finished"
    trials.fail(POINTS[1], "no memory", "node7", for_good=True)
    return trials


def printed(runs: Path, name: str = "", data: str = "digits") -> str:
    return "\n".join(line for sweep in watched(runs, data, name) for line in lines(sweep))


def test_it_tells_trials_by_state_the_best_with_its_interval_and_failures_with_their_host(tmp_path: Path):
    trials = begun(tmp_path, "sweep-1", budget={"hours": 2.0})
    trials._attempt = replace(trials._attempt, began=trials._attempt.began - 3600, progress=0.5)
    trials._written = -1e9
    trials.beat(lambda: {"CPU": [3.0, 4.0], "machines": [2.0, 2.0]})
    text = printed(tmp_path)
    assert f"sweep-1 of digits: running for 60 min (process {os.getpid()} on {socket.gethostname()})" in text
    assert "1 of 6 done: 1 running, 3 waiting, 1 finished, 1 failed" in text
    # 15 of 150: Wilson's interval, centre (0.1 + z**2 / 300) / (1 + z**2 / 150).
    assert "lr 2: validation error 10.00 % (95 % interval 6.15 to 15.84 %, of 150 images) after 50 steps" in text
    assert "1 trials an hour" in text and "takes 4.5 h if no more" in text
    assert "1 of 2 hours" in text and "3 of 4 CPU in use on 2 machines" in text
    assert "failure   lr 1 on node7: no memory" in text
    trials.close("sweep.budget.hours=2 is spent")
    ended = printed(tmp_path)
    assert re.search(r"ended \d+ s ago", ended) and "sweep.budget.hours=2 is spent" in ended
    assert "1 interrupted" in ended and "an hour" not in ended and "CPU" not in ended


def test_detectors_are_told_by_ap(tmp_path: Path):
    begun(tmp_path, "sweep-1", detects=True)
    assert "lr 2: validation AP 90.0 % after 50 steps" in printed(tmp_path)


def test_a_sweep_whose_process_was_killed_or_is_silent_elsewhere_does_not_run(tmp_path: Path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    state, now = State(About(sweep="sweep-1")), module.time.time()
    for attempt, silent_s, runs_now in (
        (Attempt(host=socket.gethostname(), pid=os.getpid(), began=now, written=now), 9e5, True),
        (Attempt(host=socket.gethostname(), pid=ended.pid, began=now, written=now), 0, False),
        (Attempt(host="elsewhere", pid=1, began=now, written=now), 5, True),
        (Attempt(host="elsewhere", pid=1, began=now, written=now), 500, False),
        (Attempt(host="elsewhere", pid=1, began=now, written=now, over="all trials are done"), 0, False),
        (Attempt(), 0, False),
    ):
        assert Watched(tmp_path, replace(state, attempt=attempt), silent_s).runs_now == runs_now
    killed = Watched(tmp_path, replace(state, attempt=Attempt(host="elsewhere", pid=1)), 500)
    assert "it was killed, or its machine cannot be reached" in next(lines(killed))


@pytest.mark.parametrize("ahead_s", [-3600, 3600])
def test_a_sweep_on_a_machine_whose_clock_differs(ahead_s: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = module.time.time
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    monkeypatch.setattr("time.time", lambda: real() + ahead_s)
    begun(tmp_path, "sweep-1")
    monkeypatch.undo()
    assert re.search(r": running for \d+ s .*, last sign of life \d+ s ago", printed(tmp_path))
    os.utime(tmp_path / "sweep-1" / module.NAME, (real() - 500, real() - 500))
    assert "ended 8 min ago" in printed(tmp_path)


def test_running_sweeps_come_before_the_last_one_and_a_name_chooses(tmp_path: Path):
    first, second = begun(tmp_path, "sweep-1"), begun(tmp_path, "sweep-2")
    begun(tmp_path, "sweep-3", data="cifar10")
    assert {sweep.folder.name for sweep in watched(tmp_path, "digits")} == {"sweep-1", "sweep-2"}
    second.close("all trials are done")
    assert [sweep.folder.name for sweep in watched(tmp_path, "digits")] == ["sweep-1"]
    first.close("all trials are done")
    os.utime(tmp_path / "sweep-2" / module.NAME, (1, 1))
    assert [sweep.folder.name for sweep in watched(tmp_path, "digits")] == ["sweep-1"]
    assert [sweep.folder.name for sweep in watched(tmp_path, "digits", "sweep-2")] == ["sweep-2"]
    with pytest.raises(ValueError, match="does not hold sweep-3 of digits"):
        watched(tmp_path, "digits", "sweep-3")


def test_stop_asks_the_one_sweep_that_runs(workspace: Workspaces, monkeypatch: pytest.MonkeyPatch, capsys):
    root = workspace()
    monkeypatch.chdir(root)
    first, second = begun(root / "runs", "sweep-1"), begun(root / "runs", "sweep-2")
    assert main(["sweep", "stop"]) == 2
    assert "2 sweeps of digits are running: sweep-" in capsys.readouterr().err
    assert main(["sweep", "stop", "sweep-1"]) == 0
    assert first.stop.exists() and not second.stop.exists()
    for trials in (first, second):
        trials.close("all trials are done")
    assert main(["sweep", "stop"]) == 2
    assert "no sweep of digits is running" in capsys.readouterr().err


def test_sweeps_on_a_store_are_as_old_there_as_where_they_ran(
    workspace: Workspaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(workspace())
    with monkeypatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "elsewhere")
        for name, silent_s in (("sweep-1", 500), ("sweep-2", 9000)):
            begun(tmp_path, name)
            os.utime(tmp_path / name / module.NAME, (module.time.time() - silent_s,) * 2)
            Copy(tmp_path / name, objects_of(f"file://{tmp_path}/store", tmp_path / name), SPAN).push()
    storage = f"cluster.storage=file://{tmp_path}/store"
    assert main(["sweep", "stop", storage]) == 2
    assert "no sweep of digits is running" in capsys.readouterr().err
    assert main(["sweep", "status", storage]) == 0
    assert "sweep-1 of digits: ended 8 min ago" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ahead_s", "store_ahead_s", "silent_s"), [(-500, 0, 0), (500, 0, 500), (0, -500, 0), (0, 500, 500)]
)
def test_whether_a_sweep_on_a_store_runs_depends_on_no_machines_clock(
    ahead_s: int, store_ahead_s: int, silent_s: int, workspace: Workspaces, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.chdir(workspace())
    real, real_ns = module.time.time, module.time.time_ns
    with monkeypatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "elsewhere")
        patch.setattr("time.time", lambda: real() + ahead_s)
        patch.setattr("time.time_ns", lambda: real_ns() + ahead_s * 10**9)
        begun(tmp_path, "sweep-1")
        os.utime(tmp_path / "sweep-1" / module.NAME, (real() + ahead_s,) * 2)
        Copy(tmp_path / "sweep-1", objects_of(f"file://{tmp_path}/store", tmp_path / "sweep-1"), SPAN).push()
    (listed,) = (tmp_path / "store" / "runs" / "sweep-1").glob(f"*/{LIST}")
    os.utime(listed, (real() + store_ahead_s - silent_s,) * 2)
    monkeypatch.setattr("pipeline.run.shared.ahead_ns", lambda _: store_ahead_s * 10**9)
    storage = f"cluster.storage=file://{tmp_path}/store"
    assert main(["sweep", "status", storage]) == 0
    told = r"ended 8 min ago .*: it was killed" if silent_s else r"running for \d+ s .*, last sign of life \d+ s ago"
    assert re.search(told, capsys.readouterr().out)
    assert main(["sweep", "stop", storage]) == (2 if silent_s else 0)


def ended(root: Path, *overrides: str, failed: bool, role: str = "sweep", **facts: str) -> str:
    """The name of the sweep of these overrides, or of its search, which has a trial and has ended."""
    ours = sweeps(composed(root, *overrides), root / "data/store/digits")
    (sweep,) = [sweep for sweep in ours if sweep.role == role]
    trials = Trials(sweep.run, sweep.points, sweep.runs, replace(sweep.about, facts={**sweep.facts, **facts}))
    trials.open({})
    if failed:
        trials.fail(sweep.points[0], "no memory", "node7", for_good=True)
    trials.close("1 trials failed" if failed else "it was interrupted")
    return sweep.name


SEARCH = ["sweep.search={space:{recipe.lr:[0.1]},take:[recipe.lr]}", "sweep.space={model.depth:[8]}"]


@pytest.mark.parametrize(("given", "role"), [(["recipe.lr=0.3"], "sweep"), (SEARCH, "search"), (SEARCH, "sweep")])
def test_retry_runs_the_sweep_that_it_names_and_no_other(
    given: list[str], role: str, workspace: Workspaces, monkeypatch: pytest.MonkeyPatch, capsys
):
    root, retried = workspace(), []
    monkeypatch.chdir(root)
    monkeypatch.setattr("pipeline.stages.sweep.run", lambda config, _: retried.append(config))
    name = ended(root, *given, failed=True, role=role)
    assert main(["sweep", "retry", "recipe.lr=0.2"]) == 2 and not retried
    error = capsys.readouterr().err
    assert f"{name} is not the sweep of this configuration, sweep-" in error
    assert "recipe.lr: " in error and " -> 0.2" in error and "give the overrides with which it was started" in error
    assert main(["sweep", "retry", *given]) == 0
    assert f"1 failed trials of {name} are repeated" in capsys.readouterr().out
    assert retried == [composed(root, *given)]


def test_retry_of_a_sweep_of_other_code_says_that_it_is_past(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch, capsys
):
    root = workspace()
    monkeypatch.chdir(root)
    ended(root, "seed=3", failed=True, code="earlier")
    assert main(["sweep", "retry", "seed=4"]) == 2
    assert "its code changed since then, so `pipeline sweep seed=4` starts a new one" in capsys.readouterr().err


def test_retry_needs_a_trial_that_failed(workspace: Workspaces, monkeypatch: pytest.MonkeyPatch, capsys):
    root = workspace()
    monkeypatch.chdir(root)
    name = ended(root, "seed=3", failed=False)
    assert main(["sweep", "retry", "seed=3"]) == 2
    assert f"no trial of {name} has failed; `pipeline sweep seed=3` goes on" in capsys.readouterr().err


def test_retry_says_that_a_budget_is_spent_before_it_promises_anything(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch, capsys
):
    root, retried = workspace(), []
    monkeypatch.chdir(root)
    monkeypatch.setattr("pipeline.stages.sweep.run", lambda config, _: retried.append(config))
    name = ended(root, "seed=3", failed=True)
    assert main(["sweep", "retry", "seed=3", "sweep.budget.hours=1e-9"]) == 2 and not retried
    told = capsys.readouterr()
    assert f"sweep.budget.hours=1e-09 is spent, so that no trial of {name} is repeated; give a larger" in told.err
    assert "are repeated" not in told.out
    assert main(["sweep", "retry", "seed=3", "sweep.budget.hours=9"]) == 0 and len(retried) == 1


@pytest.mark.slow  # other tests beside it would take a share of its cores
def test_a_thousand_trials_are_told_in_a_second(workspace: Workspaces):
    root = workspace()
    of = About(sweep="sweep-1", data="digits", size=1000, max_steps=100, num_val=150)
    reports = [(epoch, 0.5) for epoch in range(1, 31)]
    trials = Trials(root / "runs" / "sweep-1", [], root / "runs", of)
    trials.all = [Trial({"seed": s}, f"{s:012x}", "stopped", "", 0.5, 30, reports) for s in range(1000)]
    trials.open({})
    command = [sys.executable, "-m", "pipeline", "sweep", "status"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a user's second call finds the modules compiled

    def status() -> float:
        """Seconds of the processor that the command takes, whatever else the machine does."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, env=environment)
        assert "1000 of 1000 done" in done.stdout

        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(status() for _ in range(3)) < 1
