"""A sweep over hosts that share no folder: runs and data lie on an S3-compatible store, which errs, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hosts import Process, machines, wait_for
from outcome import assert_nothing_lost
from ray_cluster import EVERY, Cluster, mlflow_servers
from runs import Workspaces
from s3 import BUCKET, Store, s3_store

from pipeline.run.shared import bring_all

pytestmark = pytest.mark.cluster
GOING_ON_S = 60.0
STORAGE = f"s3://{BUCKET}/experiments"
RUNS = "/tmp/home/runs"  # each host's own
Note = Callable[[str], None]


class Apart(Cluster):
    """Hosts whose runs, and but for the head's also the data, are on the store alone."""

    def see(self) -> bool:
        """Brings what the store has to the folder that the checks read."""
        bring_all(self.root / "runs", STORAGE, without=("last.ckpt",))
        return True


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with s3_store(tmp_path) as made:
        for name, value in made.here.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def apart(workspace: Workspaces, database: int, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Apart]:
    root = workspace()
    with machines(["head", "w1", "w2", "w3"], root) as hosts, mlflow_servers(database, root) as servers:
        for host in hosts.values():
            host.environment = {**store.environment, "PIPELINE_RUNS": RUNS, "PIPELINE_STORAGE": STORAGE}
        made = Apart(root, hosts, servers)
        made.ray_head()
        for name, host in made.workers.items():
            host.hide(root / "data")
            made.ray_worker(name)
        yield made


def sweep(cluster: Apart, *overrides: str) -> Process:
    return cluster.sweep("cluster=ray", "cluster.max_concurrent=2", *overrides)


def test_a_worker_that_shares_no_folder_and_is_cut_off(apart: Apart, undisturbed: Path, figures: Note) -> None:
    driver = sweep(apart)
    key, name = wait_for(driver, lambda: apart.see() and apart.training(beyond=3 * EVERY), "a training", 300)
    apart.hosts[name].cut()
    start = time.monotonic()
    wait_for(driver, lambda: apart.see() and apart.host(key) != name, "another attempt at the trial")
    step = apart.step(key)
    wait_for(driver, lambda: apart.see() and apart.step(key) > step, "its first new step")
    seconds = time.monotonic() - start
    apart.hosts[name].join()
    driver.succeed()
    apart.see()
    assert_nothing_lost(apart, undisturbed)
    assert apart.attempts(key) == 2
    figures(f"goes on elsewhere from the store after {seconds:.0f} s; weights, journals and MLflow as undisturbed")
    assert seconds < GOING_ON_S


@pytest.mark.parametrize("mode", ["errs", "slow"])
def test_a_store_of_objects_that(mode: str, apart: Apart, store: Store, undisturbed: Path, figures: Note) -> None:
    driver = sweep(apart)
    wait_for(driver, lambda: apart.see() and apart.training(beyond=EVERY), "a training", 300)
    store.mode, away = mode, 20.0
    time.sleep(away)
    store.mode = ""
    driver.succeed()
    apart.see()
    assert_nothing_lost(apart, undisturbed)
    refused = f", which refused {store.errors} requests," if store.errors else ""
    figures(f"for {away:.0f} s{refused}: all as undisturbed")
