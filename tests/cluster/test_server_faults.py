"""A sweep whose servers are lost for a while, or have much to do: MLflow ends with every point of every run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts import wait_for
from outcome import assert_nothing_lost, assert_tracked
from ray_cluster import EVERY, RATES, Cluster
from runs import metrics_in

from pipeline.atomic import read_json

pytestmark = pytest.mark.cluster
AWAY_S = 20.0
LONG_S = 120.0
Note = Callable[[str], None]


def test_postgresql_killed_and_started_again(cluster: Cluster, undisturbed: Path, figures: Note) -> None:
    driver = cluster.sweep()
    wait_for(driver, lambda: cluster.training(beyond=EVERY), "a training")
    cluster.servers.database.kill()
    time.sleep(AWAY_S)
    assert driver.running, driver.output
    cluster.servers.database.on()
    driver.succeed()
    assert_nothing_lost(cluster, undisturbed)
    figures(f"away for {AWAY_S:.0f} s; the sweep ends with all points in MLflow by itself")


def test_mlflow_away_in_the_middle(cluster: Cluster, undisturbed: Path, figures: Note) -> None:
    def in_the_last_trial() -> bool:
        return len(list((cluster.root / "runs").glob("*/run.json"))) == len(RATES) and bool(cluster.training(EVERY))

    driver = cluster.sweep("cluster.max_concurrent=1")
    wait_for(driver, lambda: cluster.training(beyond=EVERY), "a training")
    cluster.servers.off()
    start = time.monotonic()
    wait_for(driver, lambda: in_the_last_trial() or time.monotonic() - start > LONG_S, "the last trial")
    seconds = time.monotonic() - start
    cluster.servers.on()
    assert driver.running, driver.output
    driver.succeed()
    assert_nothing_lost(cluster, undisturbed)
    figures(f"away for {seconds:.0f} s; the sweep ends with all points in MLflow by itself")


def test_twenty_trials_that_log_every_step(cluster: Cluster, figures: Note) -> None:
    rates = [round(0.01 * (number + 1), 2) for number in range(20)]
    steps = 300
    driver = cluster.sweep(
        *(f"sweep.space={{recipe.lr:{rates}}}".replace(" ", ""), f"recipe.max_steps={steps}"),
        *("trainer.log_every_steps=1", "trainer.val_every_epochs=1"),
    )
    driver.succeed()
    trials = read_json(cluster.root / "experiments" / "digits" / "leaderboard.json")["trials"]
    assert [trial["status"] for trial in trials] == ["finished"] * len(rates)
    keys = {trial["key"] for trial in trials}
    assert_tracked(cluster, keys)
    points, each = 0, []
    for key in keys:
        metrics, times = metrics_in(cluster.root / "runs" / key), []
        assert list(metrics["train/loss"]) == list(range(1, steps + 1))
        times = [event["time"] for event in cluster.events(key) if event["event"] == "metrics"]
        made = sum(map(len, metrics.values()))
        points += made
        each.append(1000 * made / (times[-1] - times[0]))
    figures(
        f"a trial logs {min(each):.0f} to {max(each):.0f} points a second, three at a time; "
        f"MLflow has all {points:,} when the sweep ends"
    )
