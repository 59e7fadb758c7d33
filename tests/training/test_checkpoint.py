"""Checkpoints that are whole or absent; one writer a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from pipeline.training.checkpoint import AtomicCheckpointIO, FolderLock, load_weights, resumable, save_weights

WRITER = """
import sys, torch
from pipeline.training.checkpoint import AtomicCheckpointIO
number = 0
while True:
    number += 1
    AtomicCheckpointIO().save_checkpoint({"run_key": "k", "number": number, "x": torch.full((4_000_000,), number)}, sys.argv[1])
    print(number, flush=True)
"""


def test_a_kill_while_writing_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "last.ckpt"
    for delay in (0.0, 0.01, 0.03):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": "/dev/shm"},
        )
        written = 0
        while written < 2:
            written = int(writer.stdout.readline())
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        written = max([written, *map(int, writer.stdout.read().split())])
        writer.wait()
        found = torch.load(path, weights_only=True)
        assert found["number"] in (written, written + 1)
        assert torch.equal(found["x"], torch.full((4_000_000,), found["number"]))
    with FolderLock(tmp_path):
        assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "lock"]


def test_another_runs_checkpoint_is_refused(tmp_path):
    AtomicCheckpointIO().save_checkpoint({"run_key": "theirs"}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="belongs to run theirs, not ours; remove"):
        resumable(tmp_path, "ours")
    assert resumable(tmp_path, "theirs") == tmp_path / "last.ckpt"
    assert resumable(tmp_path / "elsewhere", "ours") is None


def test_a_folder_has_one_writer_and_the_next_one_after_it(tmp_path):
    refused = pytest.raises(ValueError, match=f"being written by process {os.getpid()} on .*; wait for it to end")
    with FolderLock(tmp_path), refused:
        FolderLock(tmp_path).__enter__()
    with FolderLock(tmp_path):
        pass


def test_weights_come_back_with_what_builds_their_net(tmp_path):
    net = torch.nn.Linear(2, 3)
    save_weights(net, tmp_path / "w.safetensors", {"model": {"depth": 8}, "step": 5})
    weights, metadata = load_weights(tmp_path / "w.safetensors")
    assert metadata == {"model": {"depth": 8}, "step": 5}
    assert torch.equal(weights["weight"], net.weight)


def test_foreign_safetensors_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="was not written by this project"):
        load_weights(tmp_path / "w.safetensors")
