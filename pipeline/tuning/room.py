"""What the cluster gives a sweep."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pipeline.tuning.cluster import check_precision, check_tracking, join, live_nodes, side_by_side
from pipeline.tuning.sweep import Sweep
from pipeline.tuning.trial import trial_resources


@dataclass(frozen=True)
class Room:
    """Attributes:
    resources: set aside for a trial.
    at_once: trials side by side; 0 for as many as the cluster has room for, also when it grows.
    slots: trials side by side on the cluster as it is.
    """

    resources: dict[str, float]
    at_once: int
    slots: int


def join_cluster(sweep: Sweep) -> Room:
    """Joins the Ray cluster.

    Raises:
        PipelineError: it does not answer, or cannot hold a trial.
    """
    config = sweep.config
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # A stopped trial ships its journal before its thread ends; an actor whose thread takes longer is not reused.
    join(config, log_to_driver=False, runtime_env={"env_vars": {"TUNE_FUNCTION_THREAD_TIMEOUT_S": "60"}})
    check_tracking(sweep.location)
    nodes = live_nodes()
    check_precision(config, nodes)
    resources, at_once = trial_resources(config, nodes), config.cluster.max_concurrent
    if config.trainer.world_size > 1:
        # Ray Train gives up on ranks that wait long for others to end, so no more trials start than have room.
        room = side_by_side(config, nodes)
        at_once = min(at_once or room, room)
    slots = fit(resources, nodes)
    return Room(resources, at_once, min(at_once or slots, slots))


def fit(resources: dict[str, float], nodes: list[dict[str, float]]) -> int:
    """How many trials of these resources the machines hold side by side."""
    # Of 1 / 0.2, floor division makes 4, since 0.2 as a float is a little more.
    return sum(min(int(node.get(kind, 0) / n + 1e-9) for kind, n in resources.items() if n) for node in nodes)
