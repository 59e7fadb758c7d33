"""One writer a run: attempts are numbered, the newest owns the folder, and what an older one writes late does not count."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from processes import PATIENCE_S, Command, until
from runs import TINY, Workspaces, assert_same_training, assert_tracked_as, composed, events, run_folder, train

from pipeline.atomic import read_json, write_json
from pipeline.errors import PipelineError
from pipeline.run import claim
from pipeline.run.board import ATTEMPTS, FolderBoard, machine
from pipeline.run.claim import TakenOver, claimed
from pipeline.run.fit import fit
from pipeline.tracking.location import locate
from pipeline.tracking.shipper import ship

INTERRUPTED = 75


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than holders need for a sign."""
    monkeypatch.setattr(claim, "SILENT_S", claim.SIGN_S + 1)


def hold(folder: str, owner: str) -> None:
    """Writes once more after it was told to."""
    root = Path(folder)
    with claimed(root, owner) as held:
        (root / "held").touch()
        until((root / "write").exists, "the word to write")
        try:
            write_json(root / "result.json", {"by": "holder"}, require=held.require)
        except TakenOver as error:
            (root / "refused").write_text(str(error))


def held(folder: Path, owner: str = "") -> Command:
    holder = Command(folder.parent, str(folder), owner, target=hold)
    until((folder / "held").exists, "the claim")
    return holder


def test_a_folder_has_one_writer_until_it_ends_however_it_ends_and_its_end_can_be_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    holder = held(folder)
    refused = f"is being written by process {holder.pid} on .*; wait for it to end"
    start = time.monotonic()
    with pytest.raises(PipelineError, match=refused):
        claimed(folder).__enter__()
    assert time.monotonic() - start < claim.SILENT_S
    threading.Timer(1.0, holder.signal, [signal.SIGKILL]).start()
    with claimed(folder, patience_s=PATIENCE_S):
        assert f'"pid": {os.getpid()}' in (folder / ATTEMPTS / "2").read_text()
    with claimed(folder) as third:  # left as soon as its block has ended
        assert third.number == 3 and os.listdir(folder / ATTEMPTS) == ["3"]
        holder.wait()


def test_whoever_starts_attempts_replaces_its_own_at_once_and_the_old_one_writes_nothing_more(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    holder = held(folder, "sweep-1")
    with pytest.raises(PipelineError, match="is being written by"):
        claimed(folder, "sweep-2").__enter__()
    with claimed(folder, "sweep-1") as newer:
        (folder / "write").touch()
        holder.succeed()
        assert f"taken over by attempt 2, process {os.getpid()} on" in (folder / "refused").read_text()
        write_json(folder / "result.json", {"by": "newer"}, require=newer.require)
    assert read_json(folder / "result.json") == {"by": "newer"}


@pytest.mark.usefixtures("impatient")
def test_an_attempt_without_signs_of_life_is_taken_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    holder = held(folder)
    holder.signal(signal.SIGSTOP)
    with claimed(folder):
        holder.signal(signal.SIGCONT)
        (folder / "write").touch()
        holder.succeed()
    assert (folder / "refused").exists() and not (folder / "result.json").exists()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("content", ["", '{"host": "h2", "pid": 7, "machine": "another"}'])
def test_on_another_machine_silence_is_the_end_whatever_locks_say(
    content: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ATTEMPTS).mkdir()
    path = tmp_path / ATTEMPTS / "4"
    path.write_text(content)
    signs = threading.Timer(0.5, lambda: os.utime(path))
    signs.start()
    with pytest.raises(PipelineError, match=f"written by {'process 7 on h2' if content else 'another machine'}"):
        claimed(tmp_path).__enter__()
    with claimed(tmp_path) as taken:
        assert taken.number == 5
    assert "gives no sign of life" in capfd.readouterr().err


def test_on_a_file_system_without_locks_signs_of_life_decide_on_the_same_machine_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / ATTEMPTS).mkdir()
    killed = {"host": "h2", "pid": 7, "machine": machine()}
    (tmp_path / ATTEMPTS / "4").write_text(json.dumps(killed), encoding="utf-8")
    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(claim, "SILENT_S", 0.2)
    with claimed(tmp_path) as taken:
        assert taken.number == 5
    with claimed(tmp_path) as next_one:  # whoever ends well says so
        assert next_one.number == 6


def test_a_number_that_was_given_before_is_not_given_again(tmp_path: Path) -> None:
    (tmp_path / ATTEMPTS).mkdir()
    (tmp_path / ATTEMPTS / "5").touch()
    assert FolderBoard(tmp_path).enter(2, b"") is None  # its maker was slow, and two attempts came and went
    assert os.listdir(tmp_path / ATTEMPTS) == ["5"]
    with claimed(tmp_path) as taken:
        (tmp_path / ATTEMPTS / "7").touch()
        with pytest.raises(TakenOver):
            taken.require()


@pytest.mark.usefixtures("impatient")
def test_a_training_that_stood_still_while_another_finished_it_changes_nothing(
    workspace: Workspaces, reference: Path
) -> None:
    root = workspace()
    first = Command(root, "train", *TINY, "trainer.checkpoint_every_steps=5").at_step(20)
    first.signal(signal.SIGSTOP)
    assert train(root).complete
    after = {path: path.read_bytes() for path in run_folder(root).iterdir() if path.is_file()}
    first.signal(signal.SIGCONT)
    assert first.wait() == INTERRUPTED, first.output
    assert "was taken over by attempt 2, process" in first.output and "Traceback" not in first.output
    changed = {path.name for path, content in after.items() if path.read_bytes() != content}
    assert changed <= {"shipped.json"}  # it may have brought MLflow up to date
    assert_same_training(root, reference)
    ship(run_folder(root), locate("", root / "mlruns"))
    assert_tracked_as(root, reference)


def test_a_sweep_waits_for_a_training_of_its_trial_and_takes_its_result(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    other = Command(root, "train", *TINY).at_step(1)
    store = root / "data/store/digits"
    net = fit(composed(root, *TINY), store, owner="sweep-1", tags={}, track=False)
    assert net.complete and net.steps == 50
    other.succeed()
    assert [event["event"] for event in events(root)].count("begin") == 1
    assert_same_training(root, reference)


def test_half_made_files_and_folders_of_earlier_attempts_are_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".model.elsewhere.7.0000.part").mkdir()
    for name in (".model.elsewhere.7.0000.part/model", ".last.ckpt.elsewhere.7.0000.part"):
        (tmp_path / name).write_text("half")
    with claimed(tmp_path):
        assert os.listdir(tmp_path) == [ATTEMPTS]
