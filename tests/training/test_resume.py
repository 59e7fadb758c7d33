"""A training that was killed or stopped at any moment ends in the weights of one that was not."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Command
from runs import TINY, assert_no_step_twice, assert_same_training, checkpoint, last_step, tracked

Workspaces = Callable[[], Path]


def test_a_training_killed_at_random_steps_ends_in_the_same_weights_and_one_run(
    workspace: Workspaces, reference: Path
) -> None:
    root, chance = workspace(), random.Random(0)
    for low, high in ((3, 14), (19, 30), (36, 44)):
        command = Command(root, "train", *TINY, "trainer.checkpoint_every_steps=4")
        command.at_step(chance.randint(low, high)).signal(signal.SIGKILL)
        assert command.wait() == -signal.SIGKILL
    Command(root, "train", *TINY, "trainer.checkpoint_every_steps=4").succeed()
    assert_same_training(root, reference)
    (run,), (uninterrupted,) = tracked(root), tracked(reference)
    assert run.status == "FINISHED"
    assert_no_step_twice(run)
    assert run.curves == uninterrupted.curves
