"""Journals and MLflow: a server that is away, one that comes back, a journal told twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from processes import Command, free_port
from runs import TINY, assert_no_step_twice, run_folder, tracked

from pipeline.tracking.journal import Journal
from pipeline.tracking.shipper import STATE, Shipper, run_id, ship, ship_all
from pipeline.tracking.store import KEY_TAG, PARENT_TAG, Location, client, find_run, locate


def journal(folder: Path, key: str = "k", **tags: str) -> Journal:
    written = Journal(folder)
    written.begin(f"run-{key}", "digits", {"lr": 0.1}, {KEY_TAG: key, **tags})
    for step in range(5):
        written.metrics(step, {"train/loss": 1.0 / (step + 1)})
    return written


@pytest.fixture
def location(workspace) -> Location:
    return locate("", workspace() / "mlruns")


def history(location: Location, run: str) -> list:
    return [(point.step, point.value) for point in client(location).get_metric_history(run, "train/loss")]


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
    assert [step for step, _ in history(location, run)] == [0, 1, 2, 3, 4, 9]
    assert client(location).get_run(run).info.status == "FINISHED"
    assert client(location).get_run(run).data.params == {"lr": "0.1"}


def test_a_child_finds_its_parent_by_key(tmp_path, location):
    for folder, tags in (("sweep-a", {}), ("child", {PARENT_TAG: "sweep-a"})):
        journal(tmp_path / folder, folder, **tags)
        ship(tmp_path / folder, location)
    experiment = client(location).get_experiment_by_name("digits").experiment_id
    child = find_run(client(location), experiment, "child")
    assert child.data.tags["mlflow.parentRunId"] == run_id(tmp_path / "sweep-a")


def test_only_what_is_missing_is_shipped(tmp_path, location):
    for key in ("a", "b"):
        journal(tmp_path / key, key)
    assert ship_all(tmp_path, location) == 2
    assert ship_all(tmp_path, location) == 0
    Journal(tmp_path / "b").metrics(7, {"train/loss": 0.1})
    assert ship_all(tmp_path, location) == 1


def test_a_dead_server_holds_nothing_up_and_is_told_of_in_one_warning(tmp_path, caplog):
    dead = Location(f"http://127.0.0.1:{free_port()}")
    journal(tmp_path / "k")
    start = time.monotonic()
    assert Shipper(tmp_path / "k", dead).close(patience_s=5) is None
    assert time.monotonic() - start < 20
    (warning,) = [record.getMessage() for record in caplog.records if "does not have all of" in record.getMessage()]
    assert "nothing is lost" in warning and "journal.jsonl" in warning


def test_a_training_without_its_server_is_whole_once_the_server_is_back(workspace, reference):
    root = workspace()
    dead = f"tracking.uri=http://127.0.0.1:{free_port()}"
    command = Command(root, "train", *TINY, dead).succeed()
    assert "pipeline sync" in command.output and "Traceback" not in command.output
    assert not (run_folder(root) / STATE).exists()
    Command(root, "sync").succeed()
    (run,), (live,) = tracked(root), tracked(reference)
    assert run.status == "FINISHED"
    assert_no_step_twice(run)
    assert run.curves == live.curves
