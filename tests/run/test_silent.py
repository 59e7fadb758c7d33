"""A rank that ends, stops or cannot be reached ends the others within trainer.timeout_s, by name."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch.distributed as dist
from processes import free_port, ranks, train_on_ranks, two_machines
from runs import TINY, Workspaces, assert_same_training, run_folder, tracked

from pipeline.atomic import read_json
from pipeline.run.meeting import Meeting, SilentRanks
from pipeline.run.silent import SignsOfLife, of_a_collective

SLOW = pytest.mark.slow
TIMEOUT_S = 4
TWO = (*TINY, "trainer.checkpoint_every_steps=5", f"trainer.timeout_s={TIMEOUT_S}")


@pytest.fixture(scope="module")
def undisturbed(workspace: Workspaces) -> Path:
    root = workspace()
    train_on_ranks(root, *TWO)
    return root


@pytest.mark.parametrize(
    ("lost", "number"),
    [
        (1, signal.SIGKILL),
        pytest.param(1, signal.SIGSTOP, marks=SLOW),
        pytest.param(0, signal.SIGSTOP, marks=SLOW),
        pytest.param(0, signal.SIGKILL, marks=SLOW),
    ],
)
def test_a_lost_rank_ends_the_training_by_name_and_the_same_command_goes_on(
    lost: int, number: signal.Signals, workspace: Workspaces, undisturbed: Path
) -> None:
    root = workspace()
    both = ranks(root, "train", *TWO)
    both[0].at_step(11)
    start = time.monotonic()
    both[lost].signal(number)
    left = both[1 - lost]
    # One rank a machine reports, and the others end without an error.
    assert left.wait() == (75 if lost == 1 else 0), left.output
    assert time.monotonic() - start < 4 * TIMEOUT_S
    if lost == 1:
        assert f"rank 1 on {socket.gethostname()} fell silent (trainer.timeout_s={TIMEOUT_S})" in left.output
        assert "Traceback" not in left.output
        assert read_json(run_folder(root) / "run.json")["status"] == "interrupted"
    both[lost].signal(signal.SIGKILL)
    both[lost].wait()
    train_on_ranks(root, *TWO)
    assert_same_training(root, undisturbed)
    assert len(tracked(root)) == 1


def test_a_rank_alone_on_its_machine_reports(workspace: Workspaces) -> None:
    """Rank zero is gone with the store, and the other machine's user reads so."""
    root, port = workspace(), free_port()
    machines = two_machines((root, root), port, *TWO)
    machines[0].at_step(11).signal(signal.SIGKILL)
    assert machines[1].wait() == 75, machines[1].output
    assert f"rank 0 at 127.0.0.1:{port} fell silent" in machines[1].output
    assert machines[1].output.rstrip().endswith("the same command resumes")


def signs_of_two(timeout_s: float) -> list[SignsOfLife]:
    port = free_port()
    meetings = [Meeting("127.0.0.1", port, rank, 2, started=[1]) for rank in range(2)]
    with ThreadPoolExecutor() as pool:  # each waits for the other
        return list(pool.map(lambda meeting: SignsOfLife(meeting, timeout_s), meetings))


def test_ranks_wait_for_one_that_shows_life_longer_than_their_timeout() -> None:
    first, second = signs_of_two(0.5)
    start = time.monotonic()
    preparing = threading.Timer(1.2, second.wait_for_all)
    preparing.start()
    first.wait_for_all()
    assert time.monotonic() - start > 1
    preparing.join()


def test_ranks_wait_no_longer_for_one_that_shows_no_life() -> None:
    first, second = signs_of_two(0.5)
    second.end()
    named = re.escape(f"rank 1 on {socket.gethostname()} fell silent (trainer.timeout_s=0.5)")
    with pytest.raises(SilentRanks, match=f"^{named}$"):
        first.wait_for_all()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (dist.DistBackendError("Watchdog caught collective operation timeout"), True),
        (RuntimeError("[gloo/transport/tcp/pair.cc:543] Connection closed by peer"), True),
        (RuntimeError("NCCL operation timed out"), True),
        (RuntimeError("NCCL communicator was aborted after a previous error"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("NCCL operation timed out"), False),
    ],
)
def test_an_error_of_a_collective_is_known_by_its_kind_or_its_words(error: Exception, expected: bool) -> None:
    assert of_a_collective(error) is expected


@pytest.fixture(autouse=True)
def no_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    assert "LOCAL_RANK" not in os.environ
