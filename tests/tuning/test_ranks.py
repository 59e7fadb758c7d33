"""Ranks as Ray actors, on a Ray cluster of two CPUs that the tests start."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from processes import Command, execute, free_port, until
from runs import Workspaces, checkpoint, run_folder
from test_tuner import begun, run, tracked, trials

from pipeline.atomic import read_json
from pipeline.cli import INTERRUPTED, USER_ERROR

pytestmark = pytest.mark.slow

TINY = (
    *("model.depth=8", "recipe.max_steps=34", "trainer.accelerator=cpu", "trainer.val_every_epochs=1"),
    "tracking.system_metrics_every_s=0",
)
TWO = ("trainer.devices=2", "trainer.threads=1")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a running Ray cluster."""
    port = free_port()
    ray = Path(sys.executable).with_name("ray")
    options = [f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--block"]
    head = subprocess.Popen([ray, "start", "--head", *options], stdout=subprocess.PIPE, text=True)
    assert head.stdout
    for line in head.stdout:
        if "--block" in line:  # the last line before it waits
            break
    yield f"127.0.0.1:{port}"
    head.send_signal(signal.SIGTERM)
    head.communicate(timeout=60)


def train(root: Path, *overrides: str) -> Command:
    return Command(root, "-m", "pipeline", "train", *TINY, *TWO, *overrides, target=execute)


def test_trials_of_two_ranks_are_trained_in_turn_and_tracked_once(workspace: Workspaces, address: str) -> None:
    root, other = workspace(), workspace()
    space = "sweep.space={model.depth:[8],recipe.lr:[0.1,1e6]}"
    run(root, *TWO, f"cluster.address={address}", space, "sweep.reduction_factor=0")
    good, bad = trials(root)
    assert (good["status"], good["steps"], bad["status"]) == ("finished", 34, "diverged")
    assert sorted(run.data.tags["pipeline.kind"] for run in tracked(root)) == ["sweep", "train", "train"]
    assert begun(root)[bad["key"] or next(iter(begun(root).keys() - {good["key"]}))] == 1  # an answer, not a failure
    train(other).succeed()  # the same ranks, launched by Lightning
    assert run_folder(other).name == good["key"]
    weights = torch.load(root / "runs" / good["key"] / "last.ckpt", weights_only=True)["state_dict"]
    for name, tensor in checkpoint(other)["state_dict"].items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=1e-4)


def test_a_training_on_ray_is_stopped_by_a_signal_and_goes_on(workspace: Workspaces, address: str) -> None:
    root, overrides = workspace(), ("trainer.launcher=ray", f"cluster.address={address}", "recipe.max_steps=340")
    first = train(root, *overrides)
    until(lambda: list((root / "runs").glob("*/last.ckpt")), "a checkpoint")
    first.signal(signal.SIGTERM)
    assert first.wait() == INTERRUPTED, first.output
    assert read_json(run_folder(root) / "run.json")["status"] == "interrupted"
    assert [run.info.status for run in tracked(root)] == ["KILLED"]
    train(root, *overrides).succeed()
    assert checkpoint(root)["global_step"] == 340
    assert list(begun(root).values()) == [2]
    (tracked_run,) = tracked(root)
    assert tracked_run.info.status == "FINISHED"


def test_ranks_one_of_which_is_killed_while_they_start_start_again(workspace: Workspaces, address: str) -> None:
    root = workspace()
    command = train(root, "trainer.launcher=ray", f"cluster.address={address}")
    until(starting_rank, "a starting rank", pause_s=0.02).kill()
    command.succeed()
    assert checkpoint(root)["global_step"] == 34
    assert list(begun(root).values()) == [1]  # the killed rank had not begun to train


# `pipeline`, but that rank 1 takes long to get its data.
LATE = """
import sys
from pipeline.cli import main
from pipeline.tuning import ranks

def late(work):
    import time
    from ray import train
    from pipeline.tuning import ranks

    at_hand = ranks.store_at_hand

    def after_a_while(*arguments):
        time.sleep(25 * train.get_context().get_world_rank())
        return at_hand(*arguments)

    ranks.store_at_hand = after_a_while
    return ranks._rank(work)

ranks._rank = late
sys.exit(main())
"""


def test_ranks_wait_for_one_that_prepares_its_data_longer_than_their_timeout(
    workspace: Workspaces, address: str
) -> None:
    root = workspace()
    overrides = ("trainer.launcher=ray", f"cluster.address={address}", "trainer.timeout_s=10")
    Command(root, "-c", LATE, "train", *TINY, *TWO, *overrides, target=execute).succeed()
    assert checkpoint(root)["global_step"] == 34
    assert list(begun(root).values()) == [1]


def starting_rank() -> psutil.Process | None:
    """A worker that Ray Train is making: later its title names what it executes. Other clusters of this machine have some, too."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                return process
    return None


def test_more_ranks_than_the_cluster_holds_are_refused(workspace: Workspaces, address: str) -> None:
    command = train(workspace(), "trainer.launcher=ray", f"cluster.address={address}", "trainer.num_nodes=2")
    assert command.wait() == USER_ERROR
    assert "4 ranks need 4 CPUs, the Ray cluster has 2" in command.output
