"""A sweep on workers whose disk is full, whose clocks differ, or whose cable is a bad one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts import wait_for
from outcome import GOING_ON_S, assert_nothing_lost, until_it_goes_on
from ray_cluster import EVERY, Cluster

pytestmark = pytest.mark.cluster
Note = Callable[[str], None]


@pytest.mark.parametrize("freed", [True, False], ids=["for 10 s", "to the end"])
def test_a_worker_whose_disk_is_full(freed: bool, cluster: Cluster, undisturbed: Path, figures: Note) -> None:
    driver = cluster.sweep("cluster.max_concurrent=2")  # the third trial may begin on the full disk
    key, name = wait_for(driver, lambda: cluster.training(beyond=EVERY), "a training")
    cluster.hosts[name].fill()
    if freed:
        time.sleep(10)
        cluster.hosts[name].free()
    driver.succeed()
    assert_nothing_lost(cluster, undisturbed)
    assert "Traceback" not in driver.output
    assert "raylet" not in driver.output
    figures(f"attempts: {cluster.attempts(key)}, the last on {cluster.host(key)} ({name} is full); all as undisturbed")


def test_workers_an_hour_ahead_and_behind_one_of_which_is_cut_off(
    without_ray: Cluster, undisturbed: Path, figures: Note
) -> None:
    cluster = without_ray
    for name, ahead_s in (("w1", 3600), ("w2", -3600)):
        cluster.hosts[name].set_clock(ahead_s)
    cluster.ray()
    driver = cluster.sweep("cluster.max_concurrent=2")  # on two of three workers
    key, name = wait_for(
        driver,
        lambda: cluster.training(beyond=3 * EVERY, on="w1") or cluster.training(beyond=3 * EVERY, on="w2"),
        "a training",
    )
    ahead_s = cluster.events(key)[-1]["time"] / 1000 - time.time()
    assert 3000 < abs(ahead_s) < 4000
    cluster.hosts[name].cut()
    seconds = until_it_goes_on(cluster, driver, key, cluster.hosts[name])
    for other in ("w1", "w2"):
        if other != name:
            status = cluster.command("sweep status", on=other).succeed()
            assert ": running for " in status.output and "last sign of life" in status.output, status.output
    driver.succeed()
    assert_nothing_lost(cluster, undisturbed)
    times = [event["time"] for event in cluster.events(key)]
    assert times == sorted(times)
    figures(f"continues elsewhere after {seconds:.0f} s, and its times never go backwards; all as undisturbed")
    assert seconds < GOING_ON_S


def test_a_worker_with_a_bad_cable(cluster: Cluster, undisturbed: Path, figures: Note) -> None:
    cluster.hosts["w1"].spoil(lost_percent=5, rate="1mbit")
    start = time.monotonic()
    driver = cluster.sweep()
    wait_for(driver, lambda: cluster.training(beyond=EVERY, on="w1"), "a training on it")
    seconds = time.monotonic() - start
    driver.succeed()
    assert_nothing_lost(cluster, undisturbed)
    assert "failed" not in driver.output
    figures(f"1 Mbit/s with 5 % of packets lost each way: its trial trains after {seconds:.0f} s; all as undisturbed")
