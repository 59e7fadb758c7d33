"""Hosts that share no folder: runs lie on an S3-compatible store alone, and so does the data but for the head's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hosts import machines
from ray_cluster import Cluster, Database, mlflow_servers
from s3 import BUCKET, Store

from pipeline.run.shared import bring_all

STORAGE = f"s3://{BUCKET}/experiments"
RUNS = "/tmp/home/runs"  # each host's own
SEE_S = 1.0  # between looks, so that the store has time for its hosts


class Apart(Cluster):
    def see(self) -> bool:
        """Brings what the store has, without checkpoints, to the folder that the checks read."""
        time.sleep(SEE_S)
        bring_all(self.root / "runs", STORAGE, without=("last.ckpt",))
        return True

    def bring(self) -> None:
        bring_all(self.root / "runs", STORAGE)


@contextmanager
def hosts_apart(root: Path, database: Database, store: Store) -> Iterator[Apart]:
    with machines(["head", "w1", "w2", "w3"], root) as hosts, mlflow_servers(database, root) as servers:
        for host in hosts.values():
            host.environment = {**store.environment, "PIPELINE_RUNS": RUNS, "PIPELINE_STORAGE": STORAGE}
        made = Apart(root, hosts, servers)
        for host in made.workers.values():
            host.hide(root / "data")
        made.ray()
        yield made
