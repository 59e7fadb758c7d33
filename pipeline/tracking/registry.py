"""What the stages after training read from MLflow: trained nets, learning curves, weights."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import MissingError, PipelineError, first_line, hint, printable
from pipeline.record import Net, from_json, of_newest_code
from pipeline.tracking.journal import ATTEMPT
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
    command,
    find_run,
    is_deleted,
    search,
)

log = logging.getLogger(__name__)

CURVES = ("train/loss", "train/err1", "val/loss", "val/err1", "val/ap", "val/ap50", "train/lr")
TRAINED = ("train", ADOPTED)  # kinds of runs that are nets
NAMED = 3  # runs that a line about several names
_KEY, _DIGEST = re.compile(r"\w[\w.-]*"), re.compile("[0-9a-f]{64}")


def trained_nets(
    location: Location,
    experiment: str,
    content_hash: str,
    split: str,
    *,
    current: str | None = None,
    every_version: bool = False,
) -> list[Net]:
    """Nets of these images and this split, trained to the end or adopted, whose weights MLflow has a hash of.

    Args:
        current: version of the present code. Of nets whose training several versions have repeated, its own count, else
            those of the version that trained last; the others are mostly the same net again, which an average would count
            twice. One line says how many are left out.
        every_version: whether to keep these, too.
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
    runs = [
        run for run in search(mlflow_client, [entry.experiment_id], condition) if run.data.tags.get(KIND_TAG) in TRAINED
    ]
    nets: dict[str, Net] = {}
    for net in _understood(sorted(runs, key=lambda run: run.info.end_time or 0, reverse=True), location).values():
        if net.checkpoint_sha256 and (split == "full" or net.val_err1 is not None):
            nets.setdefault(net.key, net)
    newest_first = list(nets.values())
    kept = newest_first if every_version else of_newest_code(newest_first, current)
    if left := len(newest_first) - len(kept):
        log.info("%d runs of %s are left out, since another version of the code repeated them", left, experiment)
    return sorted(kept, key=lambda net: net.rank)


def _understood(runs: Iterable[Any], location: Location) -> dict[str, Net]:
    """The records of runs, by MLflow's id; one line names the runs that are left out because they have none."""
    nets: dict[str, Net] = {}
    odd: list[str] = []
    for run in runs:
        try:
            nets[run.info.run_id] = net_of(run)
        except PipelineError as error:
            odd.append(f"{run.info.run_id} ({error})")
    if odd:
        log.warning(
            "left out of MLflow at %s: %d runs that this version does not understand: %s%s",
            location.uri,
            len(odd),
            "; ".join(odd[:NAMED]),
            "; ..." if len(odd) > NAMED else "",
        )
    return nets


def net_of(run: Any) -> Net:
    """The record in a run of MLflow, which others may have written.

    Raises:
        PipelineError: none that this version can read.
    """
    try:
        net = from_json({**json.loads(run.data.tags[NET_TAG]), "run_id": run.info.run_id})
    except KeyError:
        raise PipelineError(f"without tag {NET_TAG}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise PipelineError(printable(error)) from None
    digests = [net.checkpoint_sha256 or "0" * 64, *(digest for _, digest in net.snapshots)]
    if not _KEY.fullmatch(net.key) or not all(map(_DIGEST.fullmatch, digests)):  # both name files
        raise PipelineError(printable(f"key {net.key}, checkpoints {', '.join(digests)}"))
    return net


def curves(location: Location, experiment: str, keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """A dict a run: run_id (as given), net (`Net`), ended (ISO date), tags, points {metric: [[step, value], ...]}, and
    attempts [[number, first step, when it began (ISO 8601, UTC)], ...].

    Points are in order of steps. Runs that MLflow lacks or that are not understood are left out, and named in a line.

    Args:
        keys: the runs' keys by MLflow's id. A database that was filled anew from the journals has other ids.
    """
    mlflow_client = client(location)
    runs = {run_id: _run(mlflow_client, experiment, run_id, key) for run_id, key in keys.items()}
    if missing := [run_id for run_id, run in runs.items() if run is None]:
        log.warning("MLflow at %s lacks the runs %s; %s ships them", location.uri, ", ".join(missing), hint("sync"))
    there = {run_id: run for run_id, run in runs.items() if run is not None}
    nets = _understood(there.values(), location)
    return [
        {
            "run_id": run_id,
            "net": nets[run.info.run_id],
            "ended": _utc(run.info.end_time or run.info.start_time).date().isoformat(),
            "tags": dict(run.data.tags),
            "points": _points(mlflow_client, run),
            "attempts": _attempts(mlflow_client, run),
        }
        for run_id, run in there.items()
        if run.info.run_id in nets
    ]


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _run(mlflow_client: Any, experiment: str, run_id: str, key: str) -> Any | None:
    """The run with MLflow's id or, in the experiment of this name, with the key; None if MLflow has neither."""
    from mlflow.exceptions import MlflowException

    try:
        return mlflow_client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
    entry = mlflow_client.get_experiment_by_name(experiment)
    return find_run(mlflow_client, entry.experiment_id, key) if entry and key else None


def _points(mlflow_client: Any, run: Any) -> dict[str, list[list[float]]]:
    return {
        metric: sorted([p.step, p.value] for p in mlflow_client.get_metric_history(run.info.run_id, metric))
        for metric in CURVES
        if metric in run.data.metrics
    }


def _attempts(mlflow_client: Any, run: Any) -> list[list[Any]]:
    began = mlflow_client.get_metric_history(run.info.run_id, ATTEMPT) if ATTEMPT in run.data.metrics else []
    return sorted([int(p.value), p.step, _utc(p.timestamp).isoformat(timespec="seconds")] for p in began)


def run_of(location: Location, run: str) -> Any:
    """MLflow's run with this key, in any experiment, or with this id.

    Raises:
        MissingError: MLflow has no such run, or it was deleted.
    """
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    mlflow_client, missing = client(location), f"MLflow at {location.uri} has no run {printable(run)}"
    if not _KEY.fullmatch(run):
        raise MissingError(missing)
    page = mlflow_client.search_experiments(view_type=ViewType.ALL)
    experiments = [entry.experiment_id for entry in page]
    while page.token:
        page = mlflow_client.search_experiments(view_type=ViewType.ALL, page_token=page.token)
        experiments += [entry.experiment_id for entry in page]
    matches = list(search(mlflow_client, experiments, f"tags.`{KEY_TAG}` = '{run}'", deleted=True))
    try:
        there = min(matches, key=lambda one: is_deleted(one.info)) if matches else mlflow_client.get_run(run)
    except MlflowException:
        raise MissingError(missing) from None
    if is_deleted(there.info):
        restore = command(location, f"runs restore --run-id {there.info.run_id}")
        raise MissingError(f"{missing} that is not deleted; {restore} restores it")
    return there


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
            f"{artifact} of run {run_id} is not in MLflow at {location.uri} ({first_line(error)})"
        ) from None
