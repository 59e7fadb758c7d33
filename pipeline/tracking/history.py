"""Runs as MLflow holds them: learning curves, and where, when and how fast they were trained."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pipeline.record import from_json
from pipeline.tracking.store import NET_TAG, Location, client

TIMES = ("seconds", "images_per_s")
CURVES = ("train/loss", "train/err1", "val/loss", "val/err1", "lr")


def curves(location: Location, run_ids: Iterable[str]) -> list[dict[str, Any]]:
    """A dict a run: run_id, net (`Net`), ended (date, ISO), tags, times, points.

    times holds seconds and images_per_s of a finished run, points {metric: [[step, value], ...]} by step.
    """
    mlflow_client, runs = client(location), []
    for run_id in run_ids:
        run = mlflow_client.get_run(run_id)
        points = {
            metric: sorted([p.step, p.value] for p in mlflow_client.get_metric_history(run_id, metric))
            for metric in CURVES
            if metric in run.data.metrics
        }
        runs.append(
            {
                "run_id": run_id,
                "net": from_json({**json.loads(run.data.tags[NET_TAG]), "run_id": run_id}),
                "ended": datetime.fromtimestamp((run.info.end_time or run.info.start_time) / 1000, UTC)
                .date()
                .isoformat(),
                "tags": dict(run.data.tags),
                "times": {metric: run.data.metrics[metric] for metric in TIMES if metric in run.data.metrics},
                "points": points,
            }
        )
    return runs
