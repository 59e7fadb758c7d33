"""What must hold however a sweep was disturbed: its trials' weights, journals and runs in MLflow are the undisturbed ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from hosts import Host, Process, wait_for
from ray_cluster import RATES, Cluster
from runs import assert_same_run, metrics_in

from pipeline.atomic import read_json
from pipeline.tracking.location import client, locate

GOING_ON_S = 60.0  # after a fault, until a trial makes steps elsewhere


def until_it_goes_on(cluster: Cluster, driver: Process, key: str, lost: Host) -> float:
    """Seconds until a new attempt at the run has made a step on another host."""
    start = time.monotonic()
    wait_for(driver, lambda: cluster.host(key) != lost.name, "another attempt at the trial")
    step = cluster.step(key)  # the lost host may have gone on until now
    wait_for(driver, lambda: cluster.step(key) > step, "its first new step")
    return time.monotonic() - start


def assert_nothing_lost(cluster: Cluster, undisturbed: Path) -> None:
    trials = read_json(cluster.root / "experiments" / "digits" / "leaderboard.json")["trials"]
    assert [trial["status"] for trial in trials] == ["finished"] * len(RATES)
    keys = {trial["key"] for trial in trials}
    assert keys == {path.parent.name for path in (undisturbed / "runs").glob("*/run.json")}
    for key in keys:
        ours, theirs = cluster.root / "runs" / key, undisturbed / "runs" / key
        assert_same_run(ours, theirs)
        assert _curves(metrics_in(ours)) == _curves(metrics_in(theirs))
    assert_tracked(cluster, keys)


def assert_tracked(cluster: Cluster, keys: set[str], experiment: str = "digits") -> None:
    """MLflow has one finished run a key, with all that its journal has and no step twice."""
    mlflow = client(locate(cluster.servers.uri, cluster.root / "mlruns"))
    where = [mlflow.get_experiment_by_name(experiment).experiment_id]
    runs = {run.data.tags["pipeline.key"]: run for run in mlflow.search_runs(where, "tags.`pipeline.kind` = 'train'")}
    assert runs.keys() == keys and {run.info.status for run in runs.values()} == {"FINISHED"}
    for key, run in runs.items():
        for name, values in metrics_in(cluster.root / "runs" / key).items():
            points = [(point.step, point.value) for point in mlflow.get_metric_history(run.info.run_id, name)]
            assert sorted(points) == sorted(values.items()), f"{name} of {key}"


def _curves(metrics: dict[str, dict[int, float]]) -> dict[str, Any]:
    """Those that tell no time."""
    return {key: values for key, values in metrics.items() if key not in ("seconds", "images_per_s")}
