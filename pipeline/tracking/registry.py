"""What the stages after training read from MLflow and add to it: trained nets, learning curves, weights, test errors."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import MissingError, PipelineError
from pipeline.record import Net, from_json
from pipeline.tracking.location import (
    ADOPTED,
    DATA_TAG,
    KEY_TAG,
    KIND_TAG,
    NET_TAG,
    SPLIT_TAG,
    STATUS_TAG,
    Location,
    client,
    experiment_id,
    find_run,
)

log = logging.getLogger(__name__)

CURVES = ("train/loss", "train/err1", "val/loss", "val/err1", "lr")
TRAINED = ("train", ADOPTED)  # kinds of runs that are nets
PAGE = 200  # runs a search returns at once


def require_answer(location: Location, purpose: str) -> None:
    """Raises PipelineError, a sentence that begins with `purpose`, where MLflow does not answer."""
    try:
        client(location).search_experiments(max_results=1)
    except Exception as error:  # requests', SQLAlchemy's or MLflow's, as the URI's scheme has it
        raise PipelineError(
            f"{purpose}, but MLflow at {location.uri} does not answer ({_first_line(error)}); start it, or correct "
            "tracking.uri"
        ) from None


def trained_nets(location: Location, experiment: str, content_hash: str, split: str) -> list[Net]:
    """Nets of these images and this split, trained to the end or adopted, whose weights MLflow has a hash of.

    Returns:
        Best validation error first, then by key, so that every machine sees the same order. One net a key.
    """
    mlflow_client = client(location)
    entry = mlflow_client.get_experiment_by_name(experiment)
    if entry is None:
        return []
    condition = (
        f"attributes.status = 'FINISHED' and tags.`{DATA_TAG}` = '{content_hash}' "
        f"and tags.`{SPLIT_TAG}` = '{split}' and tags.`{STATUS_TAG}` = 'finished'"
    )
    nets: dict[str, Net] = {}
    for run in _search(mlflow_client, entry.experiment_id, condition):
        if run.data.tags.get(KIND_TAG) in TRAINED and (net := net_of(run)) and net.checkpoint_sha256:
            nets.setdefault(net.key, net)
    measured = (net for net in nets.values() if split == "full" or net.val_err1 is not None)
    return sorted(measured, key=lambda net: (net.val_err1 or 0.0, net.key))


def _search(mlflow_client: Any, experiment: str, condition: str) -> Iterator[Any]:
    """Every run that meets the condition, page by page."""
    token = None
    while True:
        page = mlflow_client.search_runs([experiment], condition, max_results=PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def net_of(run: Any) -> Net | None:
    """The record in a run of MLflow; None, with a warning, where this version cannot read it."""
    try:
        return from_json({**json.loads(run.data.tags[NET_TAG]), "run_id": run.info.run_id})
    except (KeyError, ValueError) as error:
        log.warning("run %s in MLflow has no record of a net that this version can read (%s)", run.info.run_id, error)
        return None


def curves(location: Location, run_ids: Iterable[str]) -> list[dict[str, Any]]:
    """A dict a run: run_id, net (`Net`), ended (ISO date), tags, points {metric: [[step, value], ...]} in order of steps."""
    mlflow_client, runs = client(location), []
    for run_id in run_ids:
        run = mlflow_client.get_run(run_id)
        points = {
            metric: sorted([p.step, p.value] for p in mlflow_client.get_metric_history(run_id, metric))
            for metric in CURVES
            if metric in run.data.metrics
        }
        ended = datetime.fromtimestamp((run.info.end_time or run.info.start_time) / 1000, UTC).date().isoformat()
        if net := net_of(run):
            runs.append({"run_id": run_id, "net": net, "ended": ended, "tags": dict(run.data.tags), "points": points})
    return runs


def run_of(location: Location, run: str) -> str:
    """MLflow's id of the run with this key, in any experiment, or with this id.

    Raises:
        MissingError: MLflow has no such run.
    """
    from mlflow.exceptions import MlflowException

    mlflow_client = client(location)
    experiments = [experiment.experiment_id for experiment in mlflow_client.search_experiments()]
    runs = mlflow_client.search_runs(experiments, f"tags.`{KEY_TAG}` = '{run}'", max_results=1)
    if runs:
        return runs[0].info.run_id
    try:
        return mlflow_client.get_run(run).info.run_id
    except MlflowException:
        raise MissingError(f"MLflow at {location.uri} has no run {run}") from None


def download(location: Location, run_id: str, artifact: str, folder: Path) -> Path:
    """Path of a copy of the run's artifact below `folder`.

    Raises:
        MissingError: the run has no such artifact, or it cannot be read.
    """
    from mlflow.exceptions import MlflowException

    folder.mkdir(parents=True, exist_ok=True)
    try:
        return Path(client(location).download_artifacts(run_id, artifact, str(folder)))
    except (MlflowException, OSError) as error:
        raise MissingError(
            f"{artifact} of run {run_id} is not in MLflow at {location.uri} ({_first_line(error)})"
        ) from None


def ensemble_run(
    location: Location, experiment: str, key: str, name: str, tags: Mapping[str, str], metrics: Mapping[str, float]
) -> str:
    """Id of the ensemble's run with this key, created if absent; its tags and metrics are updated."""
    from mlflow.entities import Metric

    mlflow_client = client(location)
    experiment = experiment_id(mlflow_client, experiment, location)
    tags = {**tags, KEY_TAG: key, KIND_TAG: "ensemble"}
    run = find_run(mlflow_client, experiment, key)
    if run is None:
        run = mlflow_client.create_run(experiment, tags=tags, run_name=name)
    for tag, value in tags.items():
        mlflow_client.set_tag(run.info.run_id, tag, value)
    start = run.info.start_time
    mlflow_client.log_batch(run.info.run_id, [Metric(metric, value, start, 0) for metric, value in metrics.items()])
    return run.info.run_id


def add_test_metrics(location: Location, values: Mapping[str, tuple[int, Mapping[str, float]]]) -> list[str]:
    """Adds test metrics to runs; a line for each problem, and no exception.

    A metric that a run has already is written again only where its value has changed.

    Args:
        values: by run id, the step that the metrics belong to and their values.
    """
    try:
        require_answer(location, "runs are to get their test errors")
    except PipelineError as error:
        return [str(error)]
    problems = []
    for run_id, (step, metrics) in values.items():
        try:
            _add(client(location), run_id, step, metrics)
        except Exception as error:  # a deleted run, a broken connection: nothing later depends on it
            problems.append(f"run {run_id}: {_first_line(error)}")
    return problems


def _add(mlflow_client: Any, run_id: str, step: int, metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric

    run = mlflow_client.get_run(run_id)
    earlier, ended = run.data.metrics, run.info.end_time or run.info.start_time
    points = [  # MLflow shows the latest value
        Metric(name, value, int(time.time() * 1000) if name in earlier else ended, step)
        for name, value in metrics.items()
        if earlier.get(name) != value
    ]
    if points:
        mlflow_client.log_batch(run_id, points)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
