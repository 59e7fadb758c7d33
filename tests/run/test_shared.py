"""Machines that share no folder and train the same run: on cluster.storage it has one owner, and goes on anywhere."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest
from processes import Command, pipeline, until
from runs import TINY, Workspaces, assert_same_training, assert_tracked_as, events, no_more, run_folder, train

from pipeline.errors import PipelineError
from pipeline.run import claim, shared
from pipeline.run.claim import TakenOver, claimed
from pipeline.run.shared import held, objects_of
from pipeline.storage.board import ObjectBoard
from pipeline.storage.copy import LIST, is_stored
from pipeline.storage.notes import NOTES, ahead_ns, has_note, leave_note
from pipeline.storage.objects import Objects
from pipeline.tracking.journal import NAME as JOURNAL

INTERRUPTED = 75
OFTEN = "trainer.checkpoint_every_steps=5"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "SILENT_S", claim.SIGN_S + 2)


def copying_often(*arguments: str) -> None:
    """The command line with a copy on the store long before so short a training ends."""
    shared.PUSH_S = 0.02
    pipeline(*arguments)


def stored_steps(store: Path) -> bool:
    return any(store.glob(f"runs/*/*/{LIST}"))


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_training_goes_on_on_another_machine_and_the_first_one_changes_nothing(
    workspace: Workspaces, reference: Path, tmp_path: Path
) -> None:
    storage = f"cluster.storage=file://{tmp_path}/store"
    here, there = workspace(), workspace()
    tracking = f"tracking.uri=sqlite:///{there}/mlruns/mlflow.db"
    (there / "mlruns").mkdir(exist_ok=True)
    first = Command(here, "train", *TINY, OFTEN, storage, tracking, target=copying_often).at_step(1)
    until(lambda: stored_steps(tmp_path / "store"), "a copy on the store")
    first.signal(signal.SIGSTOP)
    assert train(there, storage, OFTEN).complete
    begins = [event for event in events(there) if event["event"] == "begin"]
    assert len(begins) == 2 and "host" in run_folder(there).joinpath("run.json").read_text()
    first.signal(signal.SIGCONT)
    assert first.wait() == INTERRUPTED, first.output
    assert "was taken over by attempt" in first.output and "Traceback" not in first.output
    assert_same_training(there, reference)
    third = workspace()
    assert train(third, storage, OFTEN).complete
    assert_same_training(third, reference)
    Command(there, "sync", storage, tracking).succeed()
    assert_tracked_as(there, reference)


@pytest.mark.usefixtures("impatient")
def test_of_attempts_that_enter_at_the_same_time_one_owns_the_run(tmp_path: Path) -> None:
    board = ObjectBoard(Objects(f"file://{tmp_path}"))
    entered = [board.enter(0, b"{}") for _ in range(2)]  # neither saw the other
    highest = max(entry.number for entry in entered if entry)
    assert board.latest() == highest
    for entry in filter(None, entered):
        entry.sign()
        assert entry.latest() == highest
    with claimed(board) as newer:  # both have fallen silent
        assert newer.number > highest
        threading.Event().wait(0.1)
        ObjectBoard(Objects(f"file://{tmp_path}")).enter(newer.number, b"{}")
        until(lambda: newer.entry.latest() > newer.number, "a look at the board")
        with pytest.raises(TakenOver):
            newer.require()


def test_what_is_stored_after_another_attempt_has_entered_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine was cut off; its copy gets through when its cable is back, before it looks at the board."""
    monkeypatch.setattr(claim, "SIGN_S", 60.0)
    monkeypatch.setattr(shared, "PUSH_S", 60.0)
    folder, storage = tmp_path / "here" / "0123456789ab", f"file://{tmp_path}/store"
    folder.mkdir(parents=True)
    with held(folder, storage) as own:
        (folder / JOURNAL).write_text("old\n")
        own.secure()
        assert own.kept() == 4
        assert ObjectBoard(objects_of(storage, folder)).enter(own.number, b"{}")
        (folder / JOURNAL).write_text("old\nnew\n")
        own.secure()
        assert own.kept() == 4


def test_an_attempt_whose_copy_is_not_up_to_date_in_the_end_fails_and_a_later_success_makes_up_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shared, "PUSH_S", 60.0)
    folder, storage, upload = tmp_path / "here" / "0123456789ab", f"file://{tmp_path}/store", Objects.upload
    folder.mkdir(parents=True)
    (folder / JOURNAL).write_text("a line\n")

    def refused(*_: object) -> None:
        raise PipelineError("the store is full")

    monkeypatch.setattr(Objects, "upload", refused)
    with pytest.raises(PipelineError, match="the store is full"), held(folder, storage) as own:
        own.secure()
        own.secure()
        assert own.kept() == 0
    assert capsys.readouterr().err == "not stored yet, and tried again: the store is full\n"  # once
    with held(folder, storage) as own:
        own.secure()
        monkeypatch.setattr(Objects, "upload", upload)
    assert is_stored(folder, objects_of(storage, folder))


def test_notes_reach_every_machine(tmp_path: Path) -> None:
    storage = f"file://{tmp_path}"
    assert not has_note(storage, "stop-1.json") and not has_note("", "stop-1.json")
    leave_note("", "stop-1.json")
    leave_note(storage, "stop-1.json")
    assert has_note(storage, "stop-1.json") and not has_note(storage, "stop-2.json")


def test_a_note_tells_how_far_the_stores_clock_is_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time_ns
    monkeypatch.setattr("time.time_ns", lambda: real() - 500 * 10**9)
    assert ahead_ns(f"file://{tmp_path}") == pytest.approx(500e9, abs=60e9)
    assert not list((tmp_path / NOTES).iterdir())


def test_attempts_on_a_store_are_counted_from_one(workspace: Workspaces, tmp_path: Path) -> None:
    root, storage = workspace(), f"cluster.storage=file://{tmp_path}/store"
    for _ in range(2):
        train(root, "recipe.max_steps=34", storage, report=no_more)
    begun = [event["values"]["attempt"] for event in events(root) if "attempt" in event.get("values", ())]
    assert begun == [1, 2]
