"""Sweeps on a real Ray, started by the test; trials are trained for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.atomic import read_json
from pipeline.tracking.store import client, locate

TINY = ("recipe.max_steps=34", "trainer.accelerator=cpu", "sweep.grace_epochs=1", "tracking.system_metrics_every_s=0")
PATIENCE_S = 400


def start(root: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "pipeline", "sweep", *TINY, *overrides]
    return subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def run(root: Path, *overrides: str) -> str:
    process = start(root, *overrides)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    return output


def _wait(process: subprocess.Popen, condition: Callable[[], object]) -> None:
    """Until the condition holds; the process must outlast it."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.1)


def begun(root: Path) -> dict[str, int]:
    """How many times each training run was begun, by key."""
    return {
        path.parent.name: sum(json.loads(line)["event"] == "begin" for line in path.read_text().splitlines())
        for path in (root / "runs").glob("*/journal.jsonl")
        if not path.parent.name.startswith("sweep-")
    }


def tracked(root: Path) -> list:
    mlflow_client = client(locate("", root / "mlruns"))
    return mlflow_client.search_runs([mlflow_client.get_experiment_by_name("digits").experiment_id])


def test_a_sweep_ranks_its_trials_and_tracks_them_below_one_parent(workspace):
    root = workspace()
    run(root, "sweep.space={model.depth:[8],recipe.lr:[0.1,0.001]}", "sweep.reduction_factor=0")
    trials = read_json(root / "experiments" / "digits" / "leaderboard.json")["trials"]
    assert [trial["status"] for trial in trials] == ["finished", "finished"]
    assert trials[0]["config"] == {"model.depth": 8, "recipe.lr": 0.1}
    assert trials[0]["val_err1"] < trials[1]["val_err1"]
    runs = {run.info.run_id: run for run in tracked(root)}
    assert {trial["run_id"] for trial in trials} < set(runs)
    (parent,) = [key for key, run in runs.items() if run.data.tags["pipeline.kind"] == "sweep"]
    assert {run.data.tags.get("mlflow.parentRunId") for key, run in runs.items() if key != parent} == {parent}


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_stopped(workspace):
    root = workspace()
    space = (
        "sweep.space={model.depth:[8],recipe.lr:[0.1,0.05,0.02]}",
        "sweep.reduction_factor=0",
        "sweep.max_concurrent=1",
    )
    first = start(root, *space)
    _wait(first, lambda: any((root / "runs").glob("*/best.safetensors")) and len(begun(root)) >= 2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    output = run(root, *space)
    assert "going on with sweep-" in output
    trials = read_json(root / "experiments" / "digits" / "leaderboard.json")["trials"]
    assert [trial["status"] for trial in trials] == ["finished"] * 3
    assert sorted(begun(root).values())[0] == 1  # what had finished was not trained again
    assert len(begun(root)) == 3 and len(tracked(root)) == 4  # three trials, one parent
    assert begun(root).keys() == {trial["key"] for trial in trials}


@pytest.mark.slow
def test_a_sweep_killed_before_its_first_trial_starts_again_whole(workspace):
    root, space = workspace(), ("sweep.space={model.depth:[8],recipe.lr:[0.1,0.05]}", "sweep.reduction_factor=0")
    first = start(root, *space)
    until = time.monotonic() + PATIENCE_S
    while not list((root / "runs").glob("ray/*/tuner.pkl")):
        assert time.monotonic() < until and first.poll() is None
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    run(root, *space)
    trials = read_json(root / "experiments" / "digits" / "leaderboard.json")["trials"]
    assert [(trial["config"]["recipe.lr"], trial["status"]) for trial in trials] == [
        (0.1, "finished"),
        (0.05, "finished"),
    ]


LONG = "recipe.max_steps=3400"  # to outlast the signal


@pytest.mark.slow
def test_one_sweep_is_written_by_one_process_and_a_signal_leaves_it_resumable(workspace):
    root, space = workspace(), ("sweep.space={model.depth:[8],recipe.lr:[0.1,0.05]}", "sweep.max_concurrent=1")
    first = start(root, *space, LONG)
    _wait(first, lambda: any((root / "runs").glob("sweep-*/lock")))
    second = start(root, *space, LONG)
    output, _ = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 2 and "is being written by process" in output
    _wait(first, lambda: begun(root))
    os.kill(first.pid, signal.SIGTERM)
    output, _ = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 75, output
    assert [run.info.status for run in tracked(root)] == ["KILLED", "KILLED"]  # sweep and trial
    run(root, *space, LONG)
    assert {run.info.status for run in tracked(root)} == {"FINISHED"}


@pytest.mark.slow
def test_the_same_sweep_again_trains_nothing_and_a_changed_space_says_so(workspace):
    root = workspace()
    run(root, "sweep.space={model.depth:[8],recipe.lr:[0.1]}")
    board = read_json(root / "experiments" / "digits" / "leaderboard.json")
    run(root, "sweep.space={model.depth:[8],recipe.lr:[0.1]}")
    assert read_json(root / "experiments" / "digits" / "leaderboard.json") == board
    output = run(root, "sweep.space={model.depth:[8],recipe.lr:[0.1,0.05]}")
    assert "changed since the last" in output and "recipe.lr" in output
    assert set(begun(root).values()) == {1}  # the trial both sweeps share was trained once


@pytest.mark.slow
def test_a_stopped_trial_is_resumable_and_not_finished(workspace):
    root = workspace()
    run(
        root,
        "recipe.max_steps=170",
        "sweep.space={model.depth:[8],recipe.lr:[0.1,0.05,0.001,0.0001]}",
        "sweep.reduction_factor=4",
        "sweep.max_concurrent=1",
    )
    trials = read_json(root / "experiments" / "digits" / "leaderboard.json")["trials"]
    stopped = [trial for trial in trials if trial["stopped_early"]]
    assert stopped and all(trial["status"] == "stopped" and 0 < trial["steps"] < 170 for trial in stopped)
    assert trials[0]["status"] == "finished"


@pytest.mark.slow
def test_a_trial_larger_than_the_cluster_is_refused(workspace):
    process = start(workspace(), "sweep.gpus_per_trial=64")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "a trial needs 64 GPU" in output and "Traceback" not in output


def test_an_impossible_point_of_the_grid_is_refused_before_ray_starts(workspace):
    process = start(workspace(), "sweep.space={model.depth:[8,9]}")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "model.depth=9 is not 6n+2" in output
