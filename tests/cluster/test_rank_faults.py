"""Trainings of ranks on two hosts, by torchrun alone and on Ray inside a sweep, one of which is cut off."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hosts import Host, Process, machines, wait_for
from processes import Command
from ray_cluster import BIN, EVERY, TRAINING, Cluster
from runs import Workspaces, assert_same_run, assert_same_training, last_step, metrics, run_folder

from pipeline.atomic import read_json

pytestmark = pytest.mark.cluster
TIMEOUT_S = 10
TWO = (*TRAINING, "recipe.max_steps=600", "trainer.num_nodes=2", f"trainer.timeout_s={TIMEOUT_S}")
Note = Callable[[str], None]


@pytest.fixture
def pair(workspace: Workspaces) -> Iterator[tuple[Path, Path, dict[str, Host]]]:
    """Two workspaces and two hosts, which need not share them."""
    shared = workspace().parent
    with machines(["n0", "n1"], shared) as hosts:
        yield workspace(), workspace(), hosts


def torchrun(roots: tuple[Path, Path], hosts: dict[str, Host], *overrides: str) -> list[Process]:
    first = hosts["n0"].address
    return [
        host.start(
            *(str(BIN / "torchrun"), "--nnodes=2", "--nproc-per-node=1", f"--node-rank={number}"),
            *(f"--master-addr={first}", "--master-port=29500", str(BIN / "pipeline"), "train"),
            *(*TWO, "trainer.launcher=torchrun", *overrides),
            cwd=root,
            environment={"OMP_NUM_THREADS": "1"},
        )
        for number, (host, root) in enumerate(zip(hosts.values(), roots, strict=True))
    ]


def test_torchrun_on_two_hosts_that_share_nothing_one_of_which_is_cut_off(pair, workspace, figures: Note) -> None:
    *roots, hosts = pair
    undisturbed = workspace()
    for process in torchrun((undisturbed, undisturbed), hosts):
        process.succeed()
    both = torchrun(tuple(roots), hosts)
    wait_for(both[0], lambda: last_step(roots[0]) > 2 * EVERY, "steps")
    hosts["n1"].cut()
    start = time.monotonic()
    codes = [process.wait() for process in both]
    seconds = time.monotonic() - start
    assert "rank 1 on n1 fell silent" in both[0].output and "rank 0 at" in both[1].output
    hosts["n1"].join()
    for process in torchrun(tuple(roots), hosts):
        process.succeed()
    assert_same_training(roots[0], undisturbed)
    assert not list((roots[1] / "runs").glob("*/last.ckpt"))
    figures(
        f"both ranks end after {seconds:.0f} s, each naming the other (exit codes {codes}); the same command ends as undisturbed"
    )
    assert seconds < 4 * TIMEOUT_S


def elastic(root: Path, host: Host, at: str, *overrides: str, most: int = 2) -> Process:
    return host.start(
        *(str(BIN / "torchrun"), f"--nnodes=1:{most}", "--nproc-per-node=1", "--max-restarts=9", "--rdzv-backend=c10d"),
        *(f"--rdzv-endpoint={at}:29500", "--rdzv-id=pair", str(BIN / "pipeline"), "train"),
        *(*TWO, "recipe.max_steps=4000", "trainer.launcher=torchrun", "trainer.elastic=true", *overrides),
        cwd=root,
        environment={"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
    )


def processors(root: Path) -> list[str]:
    """Those of all attempts at the workspace's only run."""
    return read_json(run_folder(root) / "run.json")["processors"] if list((root / "runs").glob("*/run.json")) else []


def test_an_elastic_training_whose_second_host_is_switched_off_and_on_again(pair, figures: Note) -> None:
    root, whole, hosts = pair
    Command(whole, "train", *TRAINING, "recipe.max_steps=4000").succeed()
    first, at = elastic(root, hosts["n0"], hosts["n0"].address), hosts["n0"].address
    elastic(root, hosts["n1"], at)
    two, one = "2 ranks of 1 thread", "1 thread"
    wait_for(first, lambda: last_step(root) > 2 * EVERY and two in processors(root), "steps of two ranks")
    hosts["n1"].off()
    start, step = time.monotonic(), last_step(root)
    wait_for(first, lambda: last_step(root) > step + EVERY and one in processors(root), "steps of one rank")
    alone = time.monotonic() - start
    hosts["n1"].on()
    begun = len(first.output)
    second = elastic(root, hosts["n1"], at)
    wait_for(first, lambda: "MEMBER: 1/2" in first.output[begun:], "two ranks")
    first.succeed()
    second.succeed()
    ours, theirs = metrics(root, "val/err1"), metrics(whole, "val/err1")
    assert ours.keys() == theirs.keys()
    figures(f"continues on one rank after {alone:.0f} s and ends with the same steps on both again")


def test_an_elastic_training_on_three_hosts_one_of_which_is_told_to_stop(workspace: Workspaces, figures: Note) -> None:
    root = workspace()
    with machines(["n0", "n1", "n2"], root.parent) as hosts:
        at, divisible = hosts["n0"].address, ("trainer.num_nodes=3", "recipe.batch_size=48")
        first, second, _ = (elastic(root, host, at, *divisible, most=3) for host in hosts.values())
        three, two = "3 ranks of 1 thread", "2 ranks of 1 thread"
        wait_for(first, lambda: last_step(root) > EVERY and three in processors(root), "steps of three ranks")
        second.signal(signal.SIGTERM)
        start, step = time.monotonic(), last_step(root)
        wait_for(first, lambda: last_step(root) > step + EVERY and processors(root)[-1] == two, "steps of two ranks")
        figures(f"continues on the other two after {time.monotonic() - start:.0f} s")


def test_a_trial_of_two_ranks_one_of_which_is_cut_off(cluster: Cluster, workspace: Workspaces, figures: Note) -> None:
    undisturbed = workspace()
    ranks = ("recipe.max_steps=600", "trainer.num_nodes=2", f"trainer.timeout_s={TIMEOUT_S}")
    space = "sweep.space={recipe.lr:[0.1]}"
    driver = cluster.sweep(*ranks, space)
    key, name = wait_for(driver, lambda: cluster.training(beyond=2 * EVERY), "a training")
    attempts = cluster.attempts(key)
    cluster.hosts[name].cut()
    start = time.monotonic()
    wait_for(driver, lambda: cluster.attempts(key) > attempts, "another attempt at the trial")
    seconds = time.monotonic() - start
    driver.succeed()
    assert cluster.host(key) != name
    alone = [*ranks[:1], "trainer.devices=2", "trainer.num_nodes=1"]
    Command(undisturbed, "train", *TRAINING, *alone, "recipe.lr=0.1").succeed()
    assert_same_run(cluster.root / "runs" / key, run_folder(undisturbed))
    figures(f"continues on other hosts after {seconds:.0f} s; weights as undisturbed")
