"""MLflow asked and told by the stages after training: runs found, weights fetched, models registered, test errors added."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

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


def require_answer(location: Location, who: str) -> None:
    """Returns if MLflow answers.

    Args:
        who: needs it, and what for; the start of the error's sentence.
    Raises:
        ValueError: it does not.
    """
    try:
        client(location).search_experiments(max_results=1)
    except Exception as error:  # requests', SQLAlchemy's or MLflow's, as the URI's scheme has it
        raise ValueError(
            f"{who}, but MLflow at {location.uri} does not answer ({_first_line(error)}); start it, or correct tracking.uri"
        ) from None


def trained_nets(location: Location, experiment: str, content_hash: str, split: str) -> list[Net]:
    """Finished trainings and adopted nets of the same images and split, whose weights MLflow has a hash of.

    Trials that a sweep's scheduler stopped early are left out: they were not trained as their recipe says. Of runs with
    the same key one is taken.

    Returns:
        Best validation error first, nets of the same error by key, so that every machine sees one order.
    """
    mlflow_client = client(location)
    entry = mlflow_client.get_experiment_by_name(experiment)
    if entry is None:
        return []
    wanted = (
        f"attributes.status = 'FINISHED' and tags.`{DATA_TAG}` = '{content_hash}' "
        f"and tags.`{SPLIT_TAG}` = '{split}' and tags.`{STATUS_TAG}` = 'finished'"
    )
    nets: dict[str, Net] = {}
    token = None
    while True:
        page = mlflow_client.search_runs([entry.experiment_id], wanted, max_results=PAGE, page_token=token)
        for run in page:
            if run.data.tags.get(KIND_TAG) in TRAINED and (net := net_of(run)) and net.checkpoint_sha256:
                nets.setdefault(net.key, net)
        token = page.token
        if not token:
            break
    measured = (net for net in nets.values() if split == "full" or net.val_err1 is not None)
    return sorted(measured, key=lambda net: (net.val_err1 or 0.0, net.key))


def net_of(run: Any) -> Net | None:
    """The record of an MLflow run; None, with a warning, where another version of this project wrote the run."""
    try:
        return from_json({**json.loads(run.data.tags[NET_TAG]), "run_id": run.info.run_id})
    except (KeyError, ValueError) as error:
        log.warning("run %s in MLflow holds no record of a net that this version reads (%s)", run.info.run_id, error)
        return None


def curves(location: Location, run_ids: Iterable[str]) -> list[dict[str, Any]]:
    """A dict a run: run_id, net (`Net`), ended (date, ISO), tags, points {metric: [[step, value], ...]} by step."""
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
    """MLflow's id of a run that is named by it, or by its key in whatever experiment.

    Raises:
        FileNotFoundError: MLflow knows no such run.
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
        raise FileNotFoundError(f"MLflow at {location.uri} knows no run {run}") from None


def download(location: Location, run_id: str, artifact: str, folder: Path) -> Path:
    """The run's artifact, copied below `folder`.

    Raises:
        FileNotFoundError: the run has none of this name, or it cannot be read.
    """
    from mlflow.exceptions import MlflowException

    folder.mkdir(parents=True, exist_ok=True)
    try:
        return Path(client(location).download_artifacts(run_id, artifact, str(folder)))
    except (MlflowException, OSError) as error:
        raise FileNotFoundError(
            f"{artifact} of run {run_id} is not in MLflow at {location.uri} ({_first_line(error)})"
        ) from None


def ensemble_run(
    location: Location, experiment: str, key: str, name: str, tags: Mapping[str, str], metrics: Mapping[str, float]
) -> str:
    """Id of the run of kind ensemble with this key, made if absent; its tags are brought up to date."""
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


def champion(location: Location, name: str, run_id: str) -> int | None:
    """Version of the registered model that a run made, given the alias `champion` again; None if it made none."""
    mlflow_client = client(location)
    versions = mlflow_client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    made = [int(version.version) for version in versions if version.status == "READY"]
    if not made:
        return None
    mlflow_client.set_registered_model_alias(name, "champion", str(max(made)))
    return max(made)


def register(
    location: Location,
    name: str,
    run_id: str,
    code: Path,
    artifacts: Mapping[str, Path],
    example: np.ndarray,
    num_classes: int,
    requirements: Sequence[str],
) -> int:
    """New version of registered model `name`, with the alias `champion`; ends the run.

    Args:
        run_id: that the model belongs to.
        code: a module of this package that hands MLflow its model (`mlflow.models.set_model`). The whole package is
            stored beside it, so that a version serves as it was registered whatever becomes of the repository.
        artifacts: files of the model by name.
        example: (1, H, W, C) uint8, one image; gives the input's shape, with any number of images.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    mlflow_client = client(location)
    run = mlflow_client.get_run(run_id)
    model = mlflow_client.create_logged_model(run.info.experiment_id, name=name, source_run_id=run_id)
    with TemporaryDirectory() as folder:
        save_model(
            f"{folder}/model",
            python_model=code,
            artifacts={key: str(path) for key, path in artifacts.items()},
            code_paths=[str(Path(__file__).resolve().parents[1])],
            pip_requirements=list(requirements),
            signature=_signature(example, num_classes),
            input_example=example,
            mlflow_model=Model(model.artifact_location, run_id, model_uuid=model.model_id, model_id=model.model_id),
        )
        mlflow_client.log_model_artifacts(model.model_id, f"{folder}/model")
    mlflow_client.finalize_logged_model(model.model_id, "READY")
    mlflow_client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    try:
        mlflow_client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # The address, not models:/<id>: a local registry would look the id up in whatever store the environment names.
    made = mlflow_client.create_model_version(name, model.artifact_location, run_id, model_id=model.model_id)
    mlflow_client.set_registered_model_alias(name, "champion", made.version)
    mlflow_client.set_terminated(run_id, "FINISHED")
    return int(made.version)


def _signature(example: np.ndarray, num_classes: int) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    images = TensorSpec(example.dtype, (-1, *example.shape[1:]))
    return ModelSignature(Schema([images]), Schema([TensorSpec(np.dtype(np.float32), (-1, num_classes))]))


def add_test_metrics(location: Location, values: Mapping[str, tuple[int, Mapping[str, float]]]) -> list[str]:
    """Adds test metrics to runs; what MLflow did not take, a line a problem, none being the rule.

    Told twice, MLflow holds a metric once; where a value has changed, the new one counts.

    Args:
        values: by run id, the step that the metrics belong to and their values.
    """
    try:
        require_answer(location, "test errors are to be added to runs")
    except ValueError as error:
        return [str(error)]
    problems = []
    for run_id, (step, metrics) in values.items():
        try:
            _add(client(location), run_id, step, metrics)
        except Exception as error:  # a deleted run, a connection that broke: nothing later depends on it
            problems.append(f"run {run_id}: {_first_line(error)}")
    return problems


def _add(mlflow_client: Any, run_id: str, step: int, metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric

    run = mlflow_client.get_run(run_id)
    held, ended = run.data.metrics, run.info.end_time or run.info.start_time
    points = [
        Metric(name, value, int(time.time() * 1000) if name in held else ended, step)
        for name, value in metrics.items()
        if held.get(name) != value
    ]
    if points:
        mlflow_client.log_batch(run_id, points)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
