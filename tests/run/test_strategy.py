"""Ranks that outlive a lost one, and end by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from processes import Command, ended, until
from pytorch_lightning.strategies import DDPStrategy
from runs import TINY, Workspaces, run_folder

from pipeline.atomic import read_json
from pipeline.cli import INTERRUPTED
from pipeline.run import strategy
from pipeline.run.strategy import Observer, PrivateDDP

VARIABLE = "TORCH_NCCL_ASYNC_ERROR_HANDLING"


@pytest.mark.parametrize("device", ["cuda:0", "cpu"])
def test_ranks_on_gpus_outlive_a_lost_one_and_take_nothing_that_it_left_undone(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, on_gpu = [], device == "cuda:0"

    def lost(_: DDPStrategy) -> None:
        raise RuntimeError("NCCL operation timed out")

    monkeypatch.setenv(VARIABLE, "1")  # as torchrun does
    for library in ("GLOO", "NCCL"):
        monkeypatch.setenv(f"{library}_SOCKET_IFNAME", "lo")
    monkeypatch.setattr(strategy, "SignsOfLife", lambda *_: None)
    monkeypatch.setattr(DDPStrategy, "setup_distributed", lambda _: None)
    monkeypatch.setattr(DDPStrategy, "barrier", lost)
    monkeypatch.setattr(DDPStrategy, "reduce", lambda _, tensor, **how: tensor)
    monkeypatch.setattr(DDPStrategy, "save_checkpoint", lambda _, *checkpoint: saved.append(checkpoint))
    ddp = PrivateDDP(object(), parallel_devices=[torch.device(device)])
    ddp.setup_distributed()
    assert os.environ.get(VARIABLE) == ("2" if on_gpu else "1")
    for call in (lambda: ddp.reduce(1, reduce_op="sum"), lambda: ddp.save_checkpoint({}, "last.ckpt")):
        if on_gpu:
            with pytest.raises(RuntimeError, match="NCCL operation timed out"):
                call()
        else:
            call()
    assert len(saved) == (0 if on_gpu else 1)


def test_ranks_have_time_to_end_before_the_observer_kills_them(monkeypatch: pytest.MonkeyPatch) -> None:
    failed, alive = (
        subprocess.Popen([sys.executable, "-c", code]) for code in ("exit(3)", "import time; time.sleep(99)")
    )
    killed: list[int] = []
    kill, here = os.kill, os.getpid()
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(number) if pid == here else kill(pid, number))
    observer, start = Observer([failed, alive], patience_s=2.0), time.monotonic()
    failed.wait()
    assert observer._run() and killed == [signal.SIGKILL] and time.monotonic() - start >= 2.0
    assert alive.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_rank_that_lightning_started_and_that_is_lost_is_named(workspace: Workspaces) -> None:
    root = workspace()
    first = Command(root, "train", *TINY, "recipe.max_steps=5000", "trainer.devices=2", "trainer.timeout_s=8").at_step(
        11
    )
    (second,) = psutil.Process(first.pid).children()
    os.kill(second.pid, signal.SIGKILL)
    assert first.wait() == INTERRUPTED, first.output
    assert "rank 1 on " in first.output and "Traceback" not in first.output
    assert read_json(run_folder(root) / "run.json")["status"] == "interrupted"
    until(lambda: ended(second.pid), "the lost rank")
