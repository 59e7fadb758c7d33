"""A sweep on a Ray cluster that loses hosts, its driver or its head: no trial is lost, and none is trained twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts import wait_for
from outcome import GOING_ON_S, assert_nothing_lost, until_it_goes_on
from processes import until
from ray_cluster import EVERY, Cluster

from pipeline.cli import INTERRUPTED, USER_ERROR

pytestmark = pytest.mark.cluster
Note = Callable[[str], None]


@pytest.mark.parametrize(
    ("fault", "mended"),
    [("cut", "join"), ("stop", "go_on"), ("off", "")],
    ids=["cut off and come back", "stopped and going on", "power cut"],
)
def test_a_worker(fault: str, mended: str, cluster: Cluster, undisturbed: Path, figures: Note) -> None:
    driver = cluster.sweep("cluster.max_concurrent=2")  # a third worker has room for a trial that loses its own
    key, name = wait_for(driver, lambda: cluster.training(beyond=3 * EVERY), "a training")
    host = cluster.hosts[name]
    getattr(host, fault)()
    seconds = until_it_goes_on(cluster, driver, key, host)
    if mended:
        getattr(host, mended)()
    driver.succeed()
    assert_nothing_lost(cluster, undisturbed)
    assert cluster.attempts(key) == 2
    (line,) = [line for line in driver.output.splitlines() if "it goes on from its last checkpoint" in line]
    assert f"failed on {host.address}: " in line and "Traceback" not in driver.output and "raylet" not in driver.output
    figures(f"continues elsewhere after {seconds:.0f} s; weights, journals and MLflow as undisturbed")
    assert seconds < GOING_ON_S


def resumed(cluster: Cluster, key: str, undisturbed: Path) -> float:
    """Seconds until the same command from another host has begun another attempt at the trial; nothing is lost at its end."""
    start, attempts = time.monotonic(), cluster.attempts(key)
    again = cluster.sweep(on="w1")
    wait_for(again, lambda: cluster.attempts(key) > attempts, "another attempt at the trial")
    seconds = time.monotonic() - start
    again.succeed()
    assert_nothing_lost(cluster, undisturbed)
    return seconds


def test_a_killed_driver(cluster: Cluster, undisturbed: Path, figures: Note) -> None:
    driver = cluster.sweep()
    key, _ = wait_for(driver, lambda: cluster.training(beyond=3 * EVERY), "a training")
    driver.kill()
    seconds = resumed(cluster, key, undisturbed)
    figures(f"the same command from another host resumes after {seconds:.0f} s; all as undisturbed")
    assert seconds < GOING_ON_S


def test_a_second_driver_of_a_sweep(cluster: Cluster, undisturbed: Path, figures: Note) -> None:
    driver = cluster.sweep()
    wait_for(driver, cluster.training, "a training")
    second = cluster.sweep(on="w1")
    assert second.wait() == USER_ERROR
    assert "is being written by process" in second.output and "Traceback" not in second.output
    driver.succeed()
    assert_nothing_lost(cluster, undisturbed)
    figures("is refused in one sentence; the first one's outcome is as undisturbed")


def test_a_head_that_is_killed_and_started_again(cluster: Cluster, undisturbed: Path, figures: Note) -> None:
    driver = cluster.sweep(on="w1")
    key, _ = wait_for(driver, lambda: cluster.training(beyond=3 * EVERY), "a training")
    cluster.hosts["head"].off()
    assert driver.wait() == INTERRUPTED, driver.output
    assert "the same command resumes" in driver.output.splitlines()[-1], driver.output
    cluster.hosts["head"].on()
    cluster.ray()
    seconds = resumed(cluster, key, undisturbed)
    figures(f"the driver ends with a sentence; the same command resumes after {seconds:.0f} s; all as undisturbed")
    assert seconds < GOING_ON_S


def test_mlflow_away_through_the_end(cluster: Cluster, undisturbed: Path, figures: Note) -> None:
    driver = cluster.sweep()
    wait_for(driver, lambda: cluster.training(beyond=EVERY), "a training")
    cluster.servers.off()
    driver.succeed()
    cluster.servers.on()
    start = time.monotonic()
    cluster.command("sync").succeed()
    assert_nothing_lost(cluster, undisturbed)
    figures(f"the sweep ends without it; `pipeline sync` brings all of it in {time.monotonic() - start:.0f} s")


def test_two_sweeps_that_share_trials(cluster: Cluster, undisturbed: Path, figures: Note) -> None:
    first = cluster.sweep("cluster.max_concurrent=1")
    key, _ = wait_for(first, lambda: cluster.training(beyond=EVERY), "a training")
    # The same trainings in another sweep, in which no trial may fail.
    second = cluster.sweep("cluster.max_failures=0", "sweep.grace_epochs=2", on="w1")
    first.succeed()
    second.succeed()
    assert_nothing_lost(cluster, undisturbed)
    until(lambda: cluster.attempts(key) == 1, "one attempt", 1)
    figures("the second waits for the first one's trials and takes their results; all as undisturbed")
