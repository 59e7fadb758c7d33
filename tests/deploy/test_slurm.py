"""The batch scripts on a real Slurm: two nodes, signals, the queue."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from imports import ROOT
from processes import until
from runs import TINY, Workspaces, assert_same_training, events, last_step, run_folder
from slurm_cluster import Slurm, slurm

from pipeline.atomic import read_json

pytestmark = pytest.mark.slow

TRAIN, SWEEP = (str(ROOT / "deploy" / "slurm" / name) for name in ("train.sbatch", "sweep.sbatch"))
# The names of these nodes are no host names, and all are on this machine.
LOOPBACK = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
SHORT = (
    *("recipe.max_steps=340", "trainer.accelerator=cpu", "trainer.val_every_epochs=1", "sweep.reduction_factor=0"),
    *("sweep.space={model.depth:[8],recipe.lr:[0.1,0.05]}", "tracking.system_metrics_every_s=0"),
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    with slurm() as started:
        yield started


@pytest.fixture
def checkout(workspace: Workspaces) -> Path:
    """A workspace with the environment of the tests."""
    root = workspace()
    (root / ".venv").symlink_to(sys.prefix)
    return root


def test_a_training_on_two_nodes_that_is_signalled_goes_on_from_the_queue_to_the_same_weights(
    cluster: Slurm, checkout: Path, workspace: Workspaces
) -> None:
    steps = ("recipe.max_steps=170", "trainer.checkpoint_every_steps=10")
    job = cluster.submit(checkout, TRAIN, *TINY, *steps, **LOOPBACK)
    until(lambda: last_step(checkout) >= 20 or job.field("JobState") == "FAILED", "step 20")
    assert job.field("JobState") == "RUNNING", job.output
    cluster.ask("scancel", "--signal=TERM", job.number)
    assert job.ends() == "COMPLETED", job.output
    assert job.restarts == 1
    assert read_json(run_folder(checkout) / "run.json")["processors"] == ["2 ranks of 1 thread"]
    begun = [event for event in events(checkout) if event["event"] == "begin"]
    assert len(begun) == 2
    # The same two ranks, never interrupted.
    other = workspace()
    (other / ".venv").symlink_to(sys.prefix)
    whole = cluster.submit(other, TRAIN, *TINY, *steps, **LOOPBACK)
    assert whole.ends() == "COMPLETED" and whole.restarts == 0, whole.output
    assert_same_training(checkout, other)


@pytest.mark.parametrize("cause", ["time limit", "preemption"])
def test_a_training_saves_before_slurm_takes_its_nodes(cause: str, cluster: Slurm, checkout: Path) -> None:
    limit = ("--time=1", "--signal=TERM@20") if cause == "time limit" else ()
    job = cluster.submit(checkout, *limit, TRAIN, *TINY, "recipe.max_steps=3400", **LOOPBACK)
    until(lambda: last_step(checkout) >= 1 or job.field("JobState") == "FAILED", "the first step")
    if cause == "preemption":
        whole = ("--partition=urgent", "--nodes=2", "--ntasks-per-node=2", "--output=urgent.out", "--wrap=true")
        assert cluster.submit(checkout, *whole).ends() == "COMPLETED"
    until(lambda: job.restarts, f"a restart:\n{job.output}")
    assert "stopped at step" in job.output
    cluster.ask("scancel", job.number)


def test_a_mistake_is_not_put_back_into_the_queue(cluster: Slurm, checkout: Path) -> None:
    job = cluster.submit(checkout, TRAIN, "model.depth=7", **LOOPBACK)
    assert job.ends() == "FAILED" and job.restarts == 0
    assert "model.depth=7" in job.output and job.field("ExitCode") == "2:0"


def test_a_script_outside_of_a_checkout_says_so(cluster: Slurm, tmp_path: Path) -> None:
    for script in (TRAIN, SWEEP):
        job = cluster.submit(tmp_path, "--export=SLURM_CONF,PATH=/usr/bin:/bin", script)
        assert job.ends() == "FAILED" and f"no pipeline in {tmp_path}/.venv/bin" in job.output


def test_a_sweep_runs_on_both_nodes_and_a_signal_puts_it_back_into_the_queue(cluster: Slurm, checkout: Path) -> None:
    def training() -> int:
        assert job.field("JobState") != "FAILED", job.output
        return len(list((checkout / "runs").glob("*/last.ckpt"))) == 2

    job = cluster.submit(checkout, "--cpus-per-task=1", SWEEP, *SHORT)  # a CPU a node, so that each trains one trial
    until(training, "a checkpoint of each trial")
    assert {read_json(path)["status"] for path in (checkout / "runs").glob("*/run.json")} == {"running"}
    cluster.ask("scancel", "--signal=TERM", "--batch", job.number)
    assert job.ends() == "COMPLETED", job.output
    assert job.restarts == 1 and "resuming sweep-" in job.output
    trials = read_json(checkout / "experiments" / "digits" / "leaderboard.json")["trials"]
    assert [trial["status"] for trial in trials] == ["finished"] * 2
    assert not (Path(f"/tmp/ray-{os.getuid()}") / job.number).exists()
