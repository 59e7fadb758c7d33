"""Checkpoints that are whole or absent."""

from __future__ import annotations

import json
import random
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from processes import Command, until
from runs import TINY, PowerCut, Workspaces, a_net, assert_same_training, cut, no_more, run_folder, save_net, train
from safetensors import safe_open
from safetensors.torch import save_file

from pipeline.atomic import sha256
from pipeline.cli import USER_ERROR
from pipeline.errors import DamagedError, PipelineError
from pipeline.run import LAST, PREVIOUS
from pipeline.run.checkpoint import resumable
from pipeline.run.checkpoint_io import AtomicCheckpointIO
from pipeline.run.claim import claimed
from pipeline.run.recorder import Recorder
from pipeline.run.weights import BEST, HEADER, load_weights


def save_without_end(folder: str) -> None:
    """Writes large checkpoints, each all of one number, over one another."""
    for number in range(10_000):
        tensor = torch.full((1_000_000,), float(number))
        AtomicCheckpointIO().save_checkpoint({"run_key": "key", "number": number, "tensor": tensor}, f"{folder}/{LAST}")


def killed_while_writing(folder: Path, after_s: float) -> None:
    """Kills a process at some moment of its writing, not before it has written a whole checkpoint."""
    folder.mkdir(exist_ok=True)
    (folder / LAST).unlink(missing_ok=True)
    elsewhere = {"TMPDIR": "/dev/shm"} if Path("/dev/shm").is_dir() else {}  # another file system, as in containers
    writer = Command(folder, str(folder), target=save_without_end, environment=elsewhere)
    until(lambda: (folder / LAST).exists() or not writer.running, "the first checkpoint")
    time.sleep(after_s)
    writer.signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL, writer.output


def assert_whole(folder: Path) -> None:
    assert resumable(folder, "key") == folder / LAST
    content = torch.load(folder / LAST, weights_only=True)
    assert content["tensor"].eq(content["number"]).all() and len(content["tensor"]) == 1_000_000


def test_a_writer_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    chance, cut = random.Random(0), 0
    for attempt in range(50):
        folder = tmp_path / str(attempt)
        killed_while_writing(folder, chance.uniform(0, 0.1))
        cut += bool(list(folder.glob(".*.part")))
        assert_whole(folder)
        with claimed(folder):
            assert not list(folder.glob(".*.part"))
        if attempt >= 3 and cut >= 2:
            return
    raise AssertionError("hardly a process was killed in the middle of writing; the test shows nothing")


def test_a_half_written_file_is_ignored_and_cleared_away(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    folder = root / "runs" / run_folder(reference).name
    folder.mkdir(parents=True)
    half = folder / f".{LAST}.1234-abcdef.part"
    half.write_bytes((run_folder(reference) / LAST).read_bytes()[:100_000])
    assert train(root).steps == 50
    assert not half.exists()
    assert (folder / BEST).read_bytes() == (run_folder(reference) / BEST).read_bytes()


def test_a_checkpoint_of_another_run_is_refused(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    folder = root / "runs" / run_folder(reference).name
    folder.mkdir(parents=True)
    content = torch.load(run_folder(reference) / LAST, weights_only=True)
    torch.save({**content, "run_key": "another"}, folder / LAST)
    command = Command(root, "train", *TINY)
    assert command.wait() == USER_ERROR
    assert f"belongs to run another, not {folder.name}; remove {folder}" in command.output
    assert "Traceback" not in command.output


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_a_damaged_checkpoint_is_refused_with_what_to_do(tmp_path: Path, reference: Path) -> None:
    whole = (run_folder(reference) / LAST).read_bytes()
    middle = len(whole) // 2  # of some weight
    for content in (whole[:middle], b"", b"no checkpoint at all", whole[:-100], flipped(whole, middle)):
        (tmp_path / LAST).write_bytes(content)
        with pytest.raises(
            ValueError, match=r"last\.ckpt is damaged \(.*\), and no earlier .* remove .*/\*\.ckpt to train"
        ):
            resumable(tmp_path, "key")


def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(
    workspace: Workspaces, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = workspace()
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(PowerCut):
        cut(monkeypatch, Recorder, "on_train_batch_end", 40, False)
        train(root, "trainer.checkpoint_every_steps=5")
    path = run_folder(root) / LAST
    path.write_bytes(flipped(path.read_bytes(), path.stat().st_size // 2))
    assert train(root, "trainer.checkpoint_every_steps=5").complete
    assert "last.ckpt is damaged" in (said := capsys.readouterr().err) and "going on from previous.ckpt" in said
    assert_same_training(root, reference)
    assert not (run_folder(root) / PREVIOUS).exists()


def test_a_training_does_not_go_on_without_its_best_weights(workspace: Workspaces) -> None:
    root = workspace()
    train(root, report=no_more)
    best = run_folder(root) / BEST
    for content in (flipped(best.read_bytes(), best.stat().st_size // 2), b"{", None):
        best.unlink() if content is None else best.write_bytes(content)
        with pytest.raises(ValueError, match=r"best\.safetensors is (damaged|missing).* remove .*/\*\.ckpt to train"):
            train(root)
    for checkpoint in run_folder(root).glob("*.ckpt"):
        checkpoint.unlink()
    assert train(root).complete


def test_a_failed_write_leaves_the_last_checkpoint_and_no_rest(tmp_path: Path) -> None:
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"step": 1}, tmp_path / LAST)
    with pytest.raises(Exception, match="pickle"):
        writer.save_checkpoint({"step": lambda: None}, tmp_path / LAST)
    assert writer.load_checkpoint(tmp_path / LAST) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


def test_a_full_disk_leaves_the_last_checkpoint_and_no_rest(tmp_path: Path) -> None:
    writer, large = AtomicCheckpointIO(), {"step": 2, "tensor": torch.ones(100_000)}
    writer.save_checkpoint({"step": 1}, tmp_path / LAST)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            writer.save_checkpoint(large, tmp_path / LAST)
        with pytest.raises(OSError, match="too large"):
            save_net(torch.nn.Linear(1000, 100), tmp_path / BEST, a_net())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert writer.load_checkpoint(tmp_path / LAST) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


def test_no_checkpoint_can_run_code_when_it_is_loaded(tmp_path: Path) -> None:
    torch.save({"step": Path("object")}, tmp_path / LAST)
    with pytest.raises(Exception, match="Weights only load failed"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / LAST)


def test_weights_come_back_with_what_builds_their_net(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).to(memory_format=torch.channels_last)
    save_net(net, tmp_path / BEST, a_net(step=3, val_err1=0.25))
    state, record = load_weights(tmp_path / BEST)
    assert record == a_net(step=3, val_err1=0.25, checkpoint_sha256=sha256(tmp_path / BEST))
    assert state.keys() == net.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())


def test_no_flipped_bit_changes_weights_or_their_record(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    save_net(net, tmp_path / BEST, a_net(step=3))
    whole, (state, record) = (tmp_path / BEST).read_bytes(), load_weights(tmp_path / BEST)
    refused, chance = 0, random.Random(0)
    for _ in range(300):
        (tmp_path / BEST).write_bytes(flipped(whole, chance.randrange(len(whole))))
        try:
            again, its_record = load_weights(tmp_path / BEST)
        except (DamagedError, ValueError) as error:
            assert str(error).startswith(str(tmp_path / BEST))
            refused += 1
        else:
            assert all(torch.equal(again[name], tensor) for name, tensor in state.items())
            assert replace(its_record, checkpoint_sha256=record.checkpoint_sha256) == record
    assert refused > 250


@pytest.mark.parametrize("lost", ["digest", "input"])
def test_weights_whose_record_lost_a_part_are_refused(lost: str, tmp_path: Path) -> None:
    save_net(torch.nn.Linear(3, 2), tmp_path / BEST, a_net())
    with safe_open(tmp_path / BEST, "pt") as file:
        record = json.loads(file.metadata()[HEADER])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del record[lost]
    save_file(tensors, tmp_path / BEST, {HEADER: json.dumps(record)})
    with pytest.raises(PipelineError, match="copy the file again, or train the net again"):
        load_weights(tmp_path / BEST)


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="was not written by this project"):
        load_weights(tmp_path / "foreign.safetensors")
