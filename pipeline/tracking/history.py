"""Runs as MLflow holds them: learning curves, and where, when and how fast they were trained."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pipeline.tracking.store import Location, client

TIMES = ("seconds", "images_per_s")
CURVES = ("train/loss", "train/err1", "val/loss", "val/err1", "lr")


def curves(location: Location, run_ids: Iterable[str]) -> list[dict[str, Any]]:
    """A dict a run: run_id, name, ended (date, ISO), params and tags (strings, dotted keys), times, points.

    times holds seconds and images_per_s of a finished run, points {metric: [[step, value], ...]} by step.
    """
    mlflow_client = client(location)
    found = []
    for run_id in run_ids:
        run = mlflow_client.get_run(run_id)
        points = {
            metric: sorted([p.step, p.value] for p in mlflow_client.get_metric_history(run_id, metric))
            for metric in CURVES
            if metric in run.data.metrics
        }
        ended = datetime.fromtimestamp((run.info.end_time or run.info.start_time) / 1000, UTC).date().isoformat()
        facts = {"run_id": run_id, "name": run.info.run_name, "ended": ended, "params": dict(run.data.params)}
        facts["tags"] = dict(run.data.tags)
        facts["times"] = {metric: run.data.metrics[metric] for metric in TIMES if metric in run.data.metrics}
        found.append({**facts, "points": points})
    return found
