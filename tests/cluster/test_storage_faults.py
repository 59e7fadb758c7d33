"""A sweep over hosts that share no folder: runs and data lie on S3-compatible object storage, which fails, too."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from apart import Apart
from hosts import Process, wait_for
from outcome import GOING_ON_S, assert_nothing_lost
from ray_cluster import EVERY
from s3 import Store

pytestmark = pytest.mark.cluster
Note = Callable[[str], None]


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
    apart.bring()
    assert_nothing_lost(apart, undisturbed)
    assert apart.attempts(key) == 2
    figures(
        f"continues elsewhere from the object storage after {seconds:.0f} s; weights, journals and MLflow as undisturbed"
    )
    assert seconds < GOING_ON_S


@pytest.mark.parametrize("mode", ["errs", "slow"], ids=["refusing requests", "slow"])
def test_object_storage(mode: str, apart: Apart, store: Store, undisturbed: Path, figures: Note) -> None:
    driver = sweep(apart)
    wait_for(driver, lambda: apart.see() and apart.training(beyond=EVERY), "a training", 300)
    store.mode, away = mode, 20.0
    time.sleep(away)
    store.mode = ""
    driver.succeed()
    apart.bring()
    assert_nothing_lost(apart, undisturbed)
    refused = f", {store.errors} requests refused" if store.errors else ""
    figures(f"for {away:.0f} s{refused}; all as undisturbed")
