"""Journals and MLflow: a server that is away, one that comes back, a journal shipped twice."""

from __future__ import annotations

import errno
import fcntl
import itertools
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow_server import Server
from processes import Command, until
from runs import TINY, assert_tracked_as, events, last_step, metrics, run_folder, tracked

from pipeline.cli import USER_ERROR
from pipeline.tracking import shipper
from pipeline.tracking.journal import Journal
from pipeline.tracking.location import ERROR_TAG, KEY_TAG, Location, client, locate, search
from pipeline.tracking.shipper import STATE, Shipper, run_id, ship

STEPS = [0, 1, 2, 3, 4]


def journal(folder: Path, key: str = "k", **tags: str) -> Journal:
    written = Journal(folder)
    written.begin(f"run-{key}", "digits", {"lr": 0.1}, {KEY_TAG: key, **tags})
    for step in STEPS:
        written.metrics(step, {"train/loss": 1.0 / (step + 1)})
    return written


def history(location: Location, run: str) -> list:
    return [(point.step, point.value) for point in client(location).get_metric_history(run, "train/loss")]


def the_run(location: Location) -> Any:
    """The only run, which has each step once."""
    mlflow = client(location)
    (run,) = mlflow.search_runs([mlflow.get_experiment_by_name("digits").experiment_id])
    assert [step for step, _ in history(location, run.info.run_id)][:5] == STEPS
    return run


def test_a_journal_becomes_one_run_however_often_it_is_shipped(tmp_path, location):
    written = journal(tmp_path / "k")
    ship(tmp_path / "k", location)
    written.metrics(9, {"train/loss": 0.05})
    written.end("FINISHED")
    ship(tmp_path / "k", location)
    run = run_id(tmp_path / "k")
    (tmp_path / "k" / STATE).unlink()  # as if the crash had come before it was written
    ship(tmp_path / "k", location)
    assert run_id(tmp_path / "k") == run
    assert [step for step, _ in history(location, run)] == [*STEPS, 9]
    assert the_run(location).info.status == "FINISHED" and the_run(location).data.params == {"lr": "0.1"}


def test_a_dead_server_holds_nothing_up_and_gives_one_warning(tmp_path, caplog, closed_port):
    dead = Location(f"http://127.0.0.1:{closed_port}")
    journal(tmp_path / "k")
    start = time.monotonic()
    assert Shipper(tmp_path / "k", dead).close(patience_s=5) is None
    assert time.monotonic() - start < 20
    (warning,) = [record.getMessage() for record in caplog.records if "does not have all of" in record.getMessage()]
    assert "nothing is lost" in warning and "journal.jsonl" in warning


def test_a_training_without_its_server_is_whole_once_the_server_is_back(workspace, reference, closed_port):
    root, dead = workspace(), f"tracking.uri=http://127.0.0.1:{closed_port}"
    command = Command(root, "train", *TINY, dead).succeed()
    assert "pipeline sync" in command.output and "Traceback" not in command.output
    assert not (run_folder(root) / STATE).exists()
    command = Command(root, "sync", dead)
    assert command.wait() == USER_ERROR
    assert "but MLflow at http://127.0.0.1" in command.output and "Traceback" not in command.output
    Command(root, "sync").succeed()
    assert_tracked_as(root, reference)


class Breaking:
    """An MLflow client whose connection breaks at its n-th call, before or after the server has acted."""

    def __init__(self, whole: Any, at: int, answered: bool) -> None:
        self._whole, self._left, self._answered = whole, at, answered

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._answered:
                raise ConnectionError(name)
            result = getattr(self._whole, name)(*arguments, **named)
            if self._left == 0:
                raise ConnectionError(name)
            return result

        return call


@pytest.mark.parametrize("answered", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_connection_that_breaks_anywhere_leaves_nothing_out_and_nothing_twice(
    answered, tmp_path, location, monkeypatch
):
    written = journal(tmp_path / "k")
    written.tags({"pipeline.status": "finished"})
    weights = tmp_path / "k" / "weights.txt"
    weights.write_text("1")
    written.artifact(weights, "checkpoints")
    written.end("FINISHED")
    for at in itertools.count(1):  # the first call breaks, then the second, until none does
        monkeypatch.setattr(shipper, "client", lambda to, at=at: Breaking(client(to), at, answered))
        with suppress(ConnectionError):
            ship(tmp_path / "k", location)
            break
    assert at > 5
    run = the_run(location)
    assert run.info.status == "FINISHED" and run.data.tags["pipeline.status"] == "finished"
    (artifact,) = client(location).list_artifacts(run.info.run_id, "checkpoints")
    assert artifact.path == "checkpoints/weights.txt"


def test_two_shippers_of_one_journal_make_one_run(tmp_path, location, monkeypatch):
    def slowly(*arguments: Any, **named: Any) -> list[Any]:
        runs = list(search(*arguments, **named))
        time.sleep(0.3)  # long enough for both to find no run
        return runs

    monkeypatch.setattr(shipper, "search", slowly)
    journal(tmp_path / "k")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: ship(tmp_path / "k", location), range(2)))
    the_run(location)


def test_a_journal_on_a_file_system_without_locks_is_shipped_too(tmp_path, location, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(shipper, "fcntl", SimpleNamespace(**{**vars(fcntl), "flock": refuse}))
    journal(tmp_path / "k")
    ship(tmp_path / "k", location)
    assert the_run(location).data.params == {"lr": "0.1"}


def test_another_server_gets_the_whole_journal_and_an_id_of_its_own(tmp_path, location, workspace):
    other = locate("", workspace() / "mlruns")
    written = journal(tmp_path / "k")
    assert run_id(tmp_path / "k", location) is None
    ship(tmp_path / "k", location)
    assert run_id(tmp_path / "k", location) == run_id(tmp_path / "k") is not None
    assert run_id(tmp_path / "k", other) is None
    assert shipper.wait_for_run(tmp_path / "k", patience_s=0, location=other) is None
    written.end("FINISHED")
    ship(tmp_path / "k", other)
    assert the_run(other).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("attempts", "status"),
    [
        (["begin", "end KILLED"], "KILLED"),
        (["begin", "end KILLED", "begin"], "RUNNING"),
        (["begin", "end KILLED", "begin", "end FINISHED"], "FINISHED"),
        (["begin", "end FAILED", "begin", "begin", "end FINISHED"], "FINISHED"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_the_status_is_that_of_the_last_attempt(attempts, status, at_once, tmp_path, location):
    for event in attempts:
        if event == "begin":
            Journal(tmp_path / "k").begin("run", "digits", {}, {KEY_TAG: "k"})
        else:
            Journal(tmp_path / "k").end(event.split()[1])
        if not at_once:
            ship(tmp_path / "k", location)
    ship(tmp_path / "k", location)
    assert client(location).get_run(run_id(tmp_path / "k")).info.status == status


@pytest.mark.parametrize("at_once", [True, False])
def test_a_tag_that_is_removed_is_gone_however_often_it_is_removed(at_once, tmp_path, location):
    written = journal(tmp_path / "k")
    for tags in ({"pipeline.other": "kept"}, {ERROR_TAG: "OSError: disk"}, {ERROR_TAG: None}, {ERROR_TAG: None}):
        written.tags(tags)
        if not at_once:
            ship(tmp_path / "k", location)
            assert the_run(location).data.tags.get(ERROR_TAG) == tags.get(ERROR_TAG)
    ship(tmp_path / "k", location)
    tags = the_run(location).data.tags
    assert ERROR_TAG not in tags and tags["pipeline.other"] == "kept"


def test_a_long_tag_is_not_among_those_that_a_run_begins_with_and_arrives(tmp_path, location, monkeypatch):
    """PostgreSQL holds 8,000 characters; MLflow cuts what is logged, but not what a run begins with."""
    made, created = [], shipper._create
    monkeypatch.setattr(shipper, "_create", lambda *what: made.append(created(*what)) or made[-1])
    journal(tmp_path / "k", **{"pipeline.members": "x" * 7_000})
    ship(tmp_path / "k", location)
    assert made[0].data.tags[KEY_TAG] == "k" and "pipeline.members" not in made[0].data.tags
    assert the_run(location).data.tags["pipeline.members"] == "x" * 7_000


def test_times_are_those_of_the_journal_and_a_file_that_is_gone_holds_nothing_up(tmp_path, location):
    written = journal(tmp_path / "k")
    written.artifact(tmp_path / "k" / "gone.txt", "checkpoints")
    written.end("FINISHED")
    before = int(time.time() * 1000)
    time.sleep(0.05)
    ship(tmp_path / "k", location)
    info = client(location).get_run(run_id(tmp_path / "k")).info
    assert info.status == "FINISHED"
    assert info.start_time <= info.end_time <= before
    points = client(location).get_metric_history(info.run_id, "train/loss")
    assert all(info.start_time <= point.timestamp <= before for point in points)


def test_values_that_are_no_numbers_and_more_than_one_call_holds_arrive(tmp_path, location):
    written = Journal(tmp_path / "k")
    written.begin("run", "digits", {f"p{n}": n for n in range(120)}, {KEY_TAG: "k"})
    for step in range(1_100):
        written.metrics(step, {"train/loss": {7: math.nan, 8: math.inf}.get(step, float(step))})
    ship(tmp_path / "k", location)
    run = run_id(tmp_path / "k")
    values = dict(history(location, run))
    assert len(values) == 1_100 and math.isnan(values[7]) and values[8] > 1e308
    assert len(client(location).get_run(run).data.params) == 120


def test_a_shipper_follows_while_training_goes_on(tmp_path, location, monkeypatch):
    monkeypatch.setattr(shipper, "PERIOD_S", 0.05)
    written = journal(tmp_path / "k")
    following = Shipper(tmp_path / "k", location)
    run = shipper.wait_for_run(tmp_path / "k", patience_s=60)
    assert run is not None
    written.metrics(5, {"train/loss": 0.1})
    until(lambda: len(history(location, run)) == 6, "the sixth step")
    written.end("FINISHED")
    assert following.close() == run
    assert client(location).get_run(run).info.status == "FINISHED"


def test_a_shipper_may_wait_for_the_attempts_first_metrics(tmp_path, location, monkeypatch):
    monkeypatch.setattr(shipper, "PERIOD_S", 0.05)
    monkeypatch.setattr(shipper, "LOOK_S", 0.01)
    written = journal(tmp_path / "k")
    written.begin("run-k", "digits", {"lr": 0.1}, {KEY_TAG: "k"})  # a second attempt, which has no step yet
    following = Shipper(tmp_path / "k", location, at_once=False)
    start = time.monotonic()
    assert shipper.wait_for_run(tmp_path / "k", patience_s=0.5) is None
    assert 0.5 <= time.monotonic() - start < 5
    written.metrics(5, {"train/loss": 0.1})
    assert shipper.wait_for_run(tmp_path / "k", patience_s=60) is not None
    assert following.close() == run_id(tmp_path / "k")
    written.begin("run-k", "digits", {"lr": 0.1}, {KEY_TAG: "k"})
    following = Shipper(tmp_path / "k", location, at_once=False)
    written.end("FAILED")  # before the first metrics
    assert client(location).get_run(following.close()).info.status == "FAILED"


@pytest.mark.slow
def test_a_server_that_dies_during_training_has_all_of_it_once_it_is_back(tmp_path, workspace, reference):
    root, server = workspace(), Server(tmp_path)
    address = f"tracking.uri={server.uri}"
    try:
        server.start()
        command = Command(root, "train", *TINY, address)
        until(lambda: any((root / "runs").glob(f"*/{STATE}")) or not command.running, "the run in MLflow")
        server.kill()
        command.succeed()
        assert "ships the rest" in command.output and "Traceback" not in command.output
        server.start()
        Command(root, "sync", address).succeed()
        assert_tracked_as(root, reference, server.uri)
        assert list((tmp_path / "artifacts").rglob("best.safetensors"))
    finally:
        server.kill()


@pytest.mark.slow
def test_a_server_that_is_away_for_a_part_of_a_training_misses_nothing_of_it(tmp_path, workspace):
    root, server = workspace(), Server(tmp_path)
    words = ("recipe.max_steps=2000", f"tracking.uri={server.uri}", "tracking.system_metrics_every_s=1")
    try:
        server.start()
        command = Command(root, "train", *TINY, *words)
        until(lambda: any((root / "runs").glob(f"*/{STATE}")) or not command.running, "the run in MLflow")
        server.kill()
        gone = last_step(root)
        command.at_step(gone + 200)
        server.start()
        assert "does not have all of" not in command.succeed().output
        (run,) = tracked(root, server.uri)
        keys = {key for event in events(root) for key in event.get("values", ())}
        assert run.status == "FINISHED" and keys == run.metrics.keys()
        for key in keys - {"attempt"}:
            assert run.metrics[key] == [*metrics(root, key).items()], key
        assert len(run.metrics["system/cpu_utilization_percentage"]) > 2
        assert len(run.metrics["train/loss"]) == 2000
    finally:
        server.kill()
