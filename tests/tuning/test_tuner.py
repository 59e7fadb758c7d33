"""Sweeps on a real Ray, started by the test; trials are trained for real."""

from __future__ import annotations

import json
import pickle
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from processes import Command, execute, until
from runs import composed

from pipeline.atomic import read_json, write_json
from pipeline.config import BudgetConfig
from pipeline.errors import PipelineError
from pipeline.run import Interrupted
from pipeline.run.run import identify
from pipeline.tracking import journal
from pipeline.tracking.location import client, locate
from pipeline.tuning.ending import Ending, ask
from pipeline.tuning.sweep import checked
from pipeline.tuning.trial import trial_config
from pipeline.tuning.tuner import LINKED, _check_complete, _note

TINY = (
    *("recipe.max_steps=34", "trainer.accelerator=cpu", "trainer.val_every_epochs=1"),
    *("sweep.grace_epochs=1", "tracking.system_metrics_every_s=0"),
)
TWO_RATES = "sweep.space={model.depth:[8],recipe.lr:[0.1,0.05]}"
TO_THE_END, IN_TURN = "sweep.reduction_factor=0", "cluster.max_concurrent=1"
PATIENCE_S = 400


def start(root: Path, *overrides: str) -> Command:
    """A sweep in a fresh Python: Ray must not find what a fork inherits."""
    return Command(root, "-m", "pipeline", "sweep", *TINY, *overrides, target=execute)


def run(root: Path, *overrides: str, code: int = 0) -> str:
    """The output of a sweep that ends with this exit status."""
    command = start(root, *overrides)
    assert command.wait(PATIENCE_S) == code, command.output
    return command.output


def wait(command: Command, condition: Callable[[], Any], what: str) -> None:
    """Waits for the condition, which must hold before the command ends."""
    until(lambda: condition() or not command.running, what, PATIENCE_S)
    assert command.running, command.output


def kill_when(command: Command, condition: Callable[[], Any], what: str) -> None:
    """Sends SIGKILL to the sweep and all that it started."""
    wait(command, condition, what)
    command.signal(signal.SIGKILL, group=True)
    command.wait()


def trials(root: Path) -> list[dict[str, Any]]:
    return read_json(root / "experiments" / "digits" / "leaderboard.json")["trials"]


def begun(root: Path) -> dict[str, int]:
    """How many times each training run was begun, by key."""
    return {
        path.parent.name: sum(event["event"] == "begin" for event in journal.read(path)[0])
        for path in (root / "runs").glob("*/journal.jsonl")
        if not path.parent.name.startswith(("sweep-", "search-"))
    }


def tracked(root: Path) -> list:
    mlflow_client = client(locate("", root / "mlruns"))
    return mlflow_client.search_runs([mlflow_client.get_experiment_by_name("digits").experiment_id])


def tracked_sweeps(root: Path) -> list:
    return [run for run in tracked(root) if run.data.tags["pipeline.kind"] == "sweep"]


@pytest.fixture
def ray_folder(monkeypatch) -> Iterator[Path]:
    """Where Ray keeps its sessions; a short path, since it makes sockets there."""
    with TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def test_a_sweep_ranks_its_trials_and_tracks_them_below_one_parent(workspace, ray_folder, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-in-the-environment")
    root = workspace()
    run(root, "sweep.space={model.depth:[8],recipe.lr:[0.1,0.001]}", TO_THE_END)
    best, worst = trials(root)
    assert (best["name"], worst["name"]) == ("ResNet-8, lr 0.1", "ResNet-8, lr 0.001")
    assert best["config"] == {"model.depth": 8, "recipe.lr": 0.1} and best["val_err1"] < worst["val_err1"]
    assert best["status"] == worst["status"] == "finished"
    for trial in (best, worst):
        assert trial["val_err1"] == read_json(root / "runs" / trial["key"] / "run.json")["net"]["val_err1"]
    runs = {run.info.run_id: run for run in tracked(root)}
    assert {best["run_id"], worst["run_id"]} < set(runs)
    (parent,) = [key for key, run in runs.items() if run.data.tags["pipeline.kind"] == "sweep"]
    assert {run.data.tags.get("mlflow.parentRunId") for key, run in runs.items() if key != parent} == {parent}
    assert [path.stat().st_mode & 0o077 for path in ray_folder.iterdir()] == [0]
    kept = [path for folder in (root, ray_folder) for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "raylet.out" for path in kept)
    assert not [path for path in kept if b"planted-in-the-environment" in path.read_bytes()]


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_stopped(workspace):
    root, space = workspace(), "sweep.space={model.depth:[8],recipe.lr:[0.1,0.05,0.02]}"
    first = start(root, space, TO_THE_END, IN_TURN)
    kill_when(first, lambda: any((root / "runs").glob("*/best.safetensors")) and len(begun(root)) >= 2, "a second run")
    assert "resuming sweep-" in run(root, space, TO_THE_END, IN_TURN)
    assert [trial["status"] for trial in trials(root)] == ["finished"] * 3
    assert sorted(begun(root).values())[0] == 1  # what had finished was not trained again
    assert len(begun(root)) == 3 and len(tracked(root)) == 4  # three trials, one parent
    assert begun(root).keys() == {trial["key"] for trial in trials(root)}


class Code:
    """Runs when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self._made = made

    def __reduce__(self) -> tuple:
        return Path.touch, (self._made,)


@pytest.mark.slow
def test_a_sweep_goes_on_from_its_runs_whatever_lies_where_tune_keeps_its_state(workspace):
    root = workspace()
    run(root, TWO_RATES, TO_THE_END)
    before, made = trials(root), root / "made"
    kept, (state,) = next((root / "runs").glob("sweep-*/trials.json")), (root / "runs" / "ray").glob("sweep-*")
    code = pickle.dumps(Code(made))
    for path in [*state.rglob("*.pkl"), state / "tuner.pkl"]:
        path.write_bytes(code)
    hexed = {"CLOUDPICKLE": True, "_type": "CLOUDPICKLE_FALLBACK", "value": code.hex()}
    for path in [*state.glob("experiment_state-*.json"), state / "experiment_state-9999-01-01_00-00-00.json"]:
        path.write_text(json.dumps({"trial_data": [[json.dumps(hexed), json.dumps(hexed)]], "runner_data": hexed}))
    kept.write_text(kept.read_text()[:100])
    output = run(root, TWO_RATES, TO_THE_END)
    assert "trials.json is damaged" in output and "Traceback" not in output and not made.exists()
    assert trials(root) == before and set(begun(root).values()) == {1}  # finished runs count, and Ray trains nothing


@pytest.mark.slow
def test_a_sweep_killed_before_its_first_trial_starts_again_whole(workspace):
    root = workspace()
    first = start(root, TWO_RATES, TO_THE_END)
    kill_when(first, lambda: list((root / "runs").glob("ray/*/tuner.pkl")), "the state of Tune")
    run(root, TWO_RATES, TO_THE_END)
    outcomes = [(trial["config"]["recipe.lr"], trial["status"]) for trial in trials(root)]
    assert outcomes == [(0.1, "finished"), (0.05, "finished")]


@pytest.mark.slow
def test_one_sweep_is_written_by_one_process_and_a_signal_leaves_it_resumable(workspace):
    root, long = workspace(), "recipe.max_steps=3400"  # to outlast the signal
    first = start(root, TWO_RATES, IN_TURN, long)
    wait(first, lambda: any((root / "runs").glob("sweep-*/attempts/*")), "the sweep's attempt")
    assert "is being written by process" in run(root, TWO_RATES, IN_TURN, long, code=2)
    wait(first, lambda: begun(root), "a first run")
    first.signal(signal.SIGTERM)
    assert first.wait(PATIENCE_S) == 75, first.output
    assert [run.info.status for run in tracked(root)] == ["KILLED", "KILLED"]  # sweep and trial
    run(root, TWO_RATES, IN_TURN, long)
    assert {run.info.status for run in tracked(root)} == {"FINISHED"}


@pytest.mark.slow
def test_the_same_sweep_again_trains_nothing_and_a_changed_space_says_so(workspace):
    root, space = workspace(), "sweep.space={model.depth:[8],recipe.lr:[0.1]}"
    run(root, space)
    before = trials(root)
    run(root, space)
    assert trials(root) == before
    output = run(root, TWO_RATES)
    assert "changed since the last" in output and "recipe.lr" in output
    assert set(begun(root).values()) == {1}  # the trial both sweeps share was trained once
    # MLflow nests it below the first sweep; the note of the second links it, too.
    notes = sorted((sweep.data.tags["mlflow.note.content"] for sweep in tracked_sweeps(root)), key=len)
    runs = [trial["run_id"] for trial in trials(root)]
    assert [[run in note for run in runs].count(True) for note in notes] == [1, 2]


def test_a_sweeps_note_links_the_best_trials_that_mlflow_has_and_counts_the_others():
    trials = [{"name": f"lr {n}", "key": f"{n:012}", "run_id": f"{n:032}"} for n in range(LINKED + 2)]
    lines = _note([*trials, {"name": "lr 9", "key": "", "run_id": None}]).splitlines()
    assert lines[:3] == ["Trials, best first:", "", f"- [lr 0 {'0' * 12}](#/runs/{'0' * 32})"]
    assert len(lines) == 2 + LINKED + 1 and lines[-1] == "- 2 more in sweep/leaderboard.json"


@pytest.mark.slow
def test_a_stopped_trial_is_resumable_and_not_finished(workspace):
    root, space = workspace(), "sweep.space={model.depth:[8],recipe.lr:[0.1,0.05,0.001,0.0001]}"
    run(root, "recipe.max_steps=170", space, "sweep.reduction_factor=4", IN_TURN)
    stopped = [trial for trial in trials(root) if trial["stopped_early"]]
    assert stopped and all(trial["status"] == "stopped" and 0 < trial["steps"] < 170 for trial in stopped)
    assert trials(root)[0]["status"] == "finished"
    before = trials(root)
    (kept,) = (root / "runs").glob("sweep-*/trials.json")
    entries = read_json(kept)["trials"]
    entries[-1] |= {"status": "unfinished", "reports": []}  # as if the sweep had been interrupted before its last trial
    assert entries[0]["status"] == "finished" and entries[1]["status"] == "stopped"
    write_json(kept, {"trials": entries})
    run(root, "recipe.max_steps=170", space, "sweep.reduction_factor=4", IN_TURN)
    assert [trial["status"] for trial in trials(root)] == [trial["status"] for trial in before]
    assert sorted(begun(root).values()) == [1, 1, 1, 2]  # ASHA stops the last again; the others stay as they are


RATES = "sweep.space={model.depth:[8],recipe.lr:{loguniform:[0.01,0.2]}}"
TPE = ("sweep.searcher=tpe", RATES, IN_TURN, "recipe.max_steps=17")


def state(root: Path) -> dict[str, Any]:
    """Of the last sweep."""
    paths = (root / "runs").glob("sweep-*/trials.json")
    return read_json(max(paths, key=lambda path: path.stat().st_mtime))


def suggestions(root: Path) -> list[float]:
    return [trial["point"]["recipe.lr"] for trial in state(root)["trials"]]


@pytest.mark.slow
def test_a_killed_sweep_of_tpe_goes_on_as_if_it_had_not_been_and_more_samples_extend_it(workspace):
    root, whole = workspace(), workspace()
    first = start(root, *TPE, "sweep.num_samples=12")
    kill_when(first, lambda: len(list((root / "runs").glob("[0-9a-f]*/last.ckpt"))) == 3, "three trials")
    output = run(root, *TPE, "sweep.num_samples=12")
    assert "of 12 trials are there already" in output
    assert [trial["status"] for trial in trials(root)] == ["finished"] * 12 == ["finished"] * len(begun(root))
    output = run(root, *TPE, "sweep.num_samples=14")
    assert "12 of 14 trials are there already" in output and len(begun(root)) == 14
    assert sorted(begun(root).values()) == [1] * 13 + [2]
    run(whole, *TPE, "sweep.num_samples=14")
    assert suggestions(root) == suggestions(whole)
    assert {trial["key"] for trial in trials(root)} == {trial["key"] for trial in trials(whole)}


@pytest.mark.slow
def test_tpe_with_hyperband_stops_trials_side_by_side(workspace):
    root, scheduler = workspace(), ("sweep.scheduler=hyperband", "sweep.reduction_factor=2")
    run(root, "sweep.searcher=tpe", RATES, "sweep.num_samples=8", "recipe.max_steps=136", *scheduler)
    statuses = [trial["status"] for trial in trials(root)]
    assert len(statuses) == 8 and set(statuses) == {"finished", "stopped"}


@pytest.mark.slow
def test_a_budget_ends_a_sweep_with_the_best_so_far_and_a_larger_one_goes_on(workspace):
    root = workspace()
    sweep = ("sweep.space={model.depth:[8],seed:[0,1,2,3]}", TO_THE_END, IN_TURN)
    output = run(root, *sweep, "sweep.budget.trials=1")
    assert "sweep.budget.trials=1 is spent; 3 of 4 trials are left" in output
    assert [trial["status"] for trial in trials(root)] == ["finished", *["unfinished"] * 3]
    (parent,) = tracked_sweeps(root)
    assert parent.info.status == "FINISHED" and parent.data.metrics["best_val_err1"] == trials(root)[0]["val_err1"]
    before = state(root)
    assert "is spent" in run(root, *sweep, "sweep.budget.trials=1") and state(root) == before  # Ray is not started
    # One trial of 34 steps is done; the limit is met while the third one trains, which may just come to its end.
    output = run(root, *sweep, "sweep.budget.steps=69")
    assert "1 of 4 trials are there already" in output
    assert re.search(r"sweep\.budget\.steps=69 is spent; [12] of 4 trials are left", output), output
    run(root, *sweep, "sweep.budget.hours=9")
    assert [trial["status"] for trial in trials(root)] == ["finished"] * 4
    assert len(tracked(root)) == 5 and {run.info.status for run in tracked(root)} == {"FINISHED"}


@pytest.mark.slow
def test_a_sweep_that_is_asked_to_stop_saves_its_trials_and_goes_on(workspace):
    root, long = workspace(), "recipe.max_steps=3400"
    first = start(root, TWO_RATES, IN_TURN, long)
    wait(first, lambda: list((root / "runs").glob("*/last.ckpt")), "a checkpoint")
    asked = Command(root, "-m", "pipeline", "sweep", "status", target=execute)
    assert asked.wait() == 0 and "1 running, 1 waiting" in asked.output, asked.output
    asked = Command(root, "-m", "pipeline", "sweep", "stop", target=execute)
    assert asked.wait() == 0 and "to end: its trials save a checkpoint" in asked.output, asked.output
    assert first.wait(PATIENCE_S) == 75, first.output
    assert "stopped with 2 of 2 trials unfinished" in first.output and "(pipeline sweep stop)" in first.output
    (folder,) = {path.parent for path in (root / "runs").glob("*/last.ckpt")}
    kept = read_json(folder / "run.json")
    assert kept["status"] == "interrupted" and 0 < kept["step"] < 3400
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == kept["step"]
    assert {run.info.status for run in tracked(root)} == {"KILLED"}
    run(root, TWO_RATES, IN_TURN, long)
    assert [trial["status"] for trial in trials(root)] == ["finished"] * 2
    assert {run.info.status for run in tracked(root)} == {"FINISHED"} and len(tracked(root)) == 3


@pytest.mark.slow
def test_a_trial_that_failed_is_told_with_its_reason_and_repeated(workspace):
    root = workspace()
    overrides = (TWO_RATES, TO_THE_END, IN_TURN, "cluster.max_failures=0")
    config = composed(root, *TINY, *overrides)
    bad = identify(trial_config(config, {"model.depth": 8, "recipe.lr": 0.05}), root / "data/store/digits", track=False)
    bad.folder.mkdir(parents=True)
    (bad.folder / "last.ckpt").write_bytes(b"torn")
    output = run(root, *overrides, code=2)
    assert "1 of 2 trials failed (ResNet-8, lr 0.05)" in output and "last.ckpt is damaged" in output
    status = Command(root, "-m", "pipeline", "sweep", "status", target=execute)
    assert status.wait() == 0 and "1 of 2 done: 1 finished, 1 failed" in status.output
    assert re.search(r"failure   ResNet-8, lr 0\.05 on [\w.]+: .*last\.ckpt is damaged", status.output), status.output
    (sweep,) = tracked_sweeps(root)
    assert sweep.info.status == "FAILED"
    assert sweep.data.tags["pipeline.last_error"].startswith("PipelineError: 1 of 2 trials failed")
    (bad.folder / "last.ckpt").unlink()
    command = Command(root, "-m", "pipeline", "sweep", "retry", *TINY, *overrides, target=execute)
    assert command.wait(PATIENCE_S) == 0 and "1 failed trials of sweep-" in command.output, command.output
    assert [trial["status"] for trial in trials(root)] == ["finished"] * 2
    assert begun(root)[trials(root)[0]["key"]] + begun(root)[trials(root)[1]["key"]] == 3
    (sweep,) = tracked_sweeps(root)
    assert sweep.info.status == "FINISHED" and "pipeline.last_error" not in sweep.data.tags


@pytest.mark.parametrize("searcher", [("sweep.searcher=grid",), ("sweep.searcher=tpe", "sweep.num_samples=4")])
def test_a_trial_that_failed_is_told_though_a_budget_leaves_others(searcher, workspace):
    root, points = workspace(), [{"seed": seed} for seed in range(4)]
    config = composed(root, "sweep.space={seed:[0,1,2,3]}", *searcher, "sweep.budget.trials=2")
    sweep = checked(config, root / "data/store/digits")
    ended = sweep.trials()
    for point in points if sweep.suggested else ():
        ended.add(point)
    ended.open({})
    ended.fail(points[0], "no memory", "node7", for_good=True)
    ending = Ending(config.sweep.budget, ended)
    with pytest.raises(Interrupted, match="stopped with 3 of 4 trials unfinished"):  # by a signal
        _check_complete(sweep, ended, ending)
    write_json(sweep.runs / "0123456789ab" / "run.json", {"status": "finished"})
    ended.report(points[1], {"key": "0123456789ab", "epoch": 1, "step": 9, "val/err1": 0.1, "best/err1": 0.1})
    ended.end(points[1])
    assert not ending()
    with pytest.raises(PipelineError, match=r"1 of 4 trials failed .* no memory \(on node7\).*`pipeline sweep retry`"):
        _check_complete(sweep, ended, ending)
    with pytest.raises(PipelineError, match=r"budget\.steps=9 is spent, and a larger budget repeats them") as told:
        _check_complete(sweep, ended, Ending(BudgetConfig(steps=9), ended))
    assert "retry" not in str(told.value)
    ask(ended.stop)
    ending = Ending(config.sweep.budget, ended)
    assert ending()
    with pytest.raises(Interrupted, match=r"stopped with 2 of 4 trials unfinished: .* asked for it"):
        _check_complete(sweep, ended, ending)


def test_an_impossible_point_of_the_grid_is_refused_before_ray_starts(workspace):
    output = run(workspace(), "sweep.space={model.depth:[8,9]}", code=2)
    assert "the sweep has a trial with model.depth=9: model.depth=9 is not 6n+2" in output and "Traceback" not in output


@pytest.mark.slow
def test_a_sweep_that_no_machine_can_hold_leaves_no_run(workspace):
    root = workspace()
    output = run(root, "cluster.cpus_per_trial=4000", code=2)
    assert "a trial needs 4000 CPU on one machine" in output and "Traceback" not in output
    assert not list((root / "runs").glob("*/journal.jsonl"))
    assert not (root / "mlruns" / "mlflow.db").exists() or not client(locate("", root / "mlruns")).search_runs(
        ["0", "1"]
    )


PBT = (
    *("sweep.searcher=pbt", "sweep.space={recipe.lr:{loguniform:[0.001,0.3]}}", "sweep.population=4"),
    *("sweep.interval_steps=20", "recipe.max_steps=60", "model.depth=8"),  # epochs of 17 steps
    *("recipe.schedule=multistep", "recipe.warmup_fraction=0"),
)


def outcome(root: Path) -> list[tuple]:
    """What a population came to; bit for bit, since a key hashes all keys before it."""
    told = read_json(root / "experiments" / "digits" / "leaderboard.json")["population"]
    return [tuple(segment.values()) for segment in told["segments"]] + [tuple(told["best"])]


@pytest.mark.slow
def test_a_killed_population_ends_as_one_that_was_not_and_its_last_nets_alone_are_candidates(workspace):
    root, whole = workspace(), workspace()
    first = start(root, *PBT)
    kill_when(first, lambda: len(list((root / "runs").glob("[0-9a-f]*/best.safetensors"))) == 6, "a second generation")
    assert "resuming sweep-" in run(root, *PBT)
    output = run(whole, *PBT)
    assert outcome(root) == outcome(whole)
    assert "learning rate of the best member: " in output and "to step 60" in output
    board, runs = trials(root), {run.data.tags["pipeline.key"]: run for run in tracked(root)}
    assert len(board) == 4 and [trial["config"]["recipe.max_steps"] for trial in board] == [60] * 4
    kinds = {key: run.data.tags["pipeline.kind"] for key, run in runs.items()}
    assert sorted(kinds.values()) == ["search"] * 8 + ["sweep"] + ["train"] * 4
    assert {key for key, kind in kinds.items() if kind == "train"} == {trial["key"] for trial in board}
    told = read_json(root / "experiments" / "digits" / "leaderboard.json")["population"]
    for segment in told["segments"]:
        assert runs[segment["key"]].data.tags.get("pipeline.continues", "") == segment["parent"]
        assert read_json(root / "runs" / segment["key"] / "run.json")["step"] == segment["to_step"]
    rates = {segment["key"]: segment["lr"] for segment in told["segments"]}
    changed = [s["to_step"] for s in told["segments"] if s["parent"] and s["lr"] != rates[s["parent"]]]
    assert changed == [40, 60]  # one of four in each of two generations copied another, and changed its rate
    before = begun(root)
    run(root, *PBT, "recipe.max_steps=80")
    assert len(begun(root)) == 16 and before.items() <= begun(root).items()  # its first 60 steps are not trained again
