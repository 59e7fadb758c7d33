"""What becomes of ranks on GPUs one of which is lost."""

from __future__ import annotations

import signal
import socket

import pytest
import torch
from processes import ranks, train_on_ranks
from runs import TINY, Workspaces, checkpoint, run_folder

from pipeline.atomic import read_json
from pipeline.cli import INTERRUPTED

STEPS = 2_000
TWO = (
    *(*TINY, "trainer.accelerator=gpu", f"recipe.max_steps={STEPS}", "trainer.checkpoint_every_steps=5"),
    "trainer.timeout_s=10",
)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs or more")
def test_a_lost_rank_ends_the_other_by_name_and_the_same_command_goes_on(
    workspace: Workspaces, device: torch.device
) -> None:
    root = workspace()
    both = ranks(root, "train", *TWO)
    both[0].at_step(11)
    both[1].signal(signal.SIGKILL)
    assert both[0].wait() == INTERRUPTED, both[0].output
    assert f"rank 1 on {socket.gethostname()} fell silent (trainer.timeout_s=10)" in both[0].output
    assert read_json(run_folder(root) / "run.json")["status"] == "interrupted"
    train_on_ranks(root, *TWO)
    assert checkpoint(root)["global_step"] == STEPS
