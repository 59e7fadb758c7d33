"""Writes to a run of MLflow what events of its journal came to."""

from __future__ import annotations

import json
from typing import Any

from pipeline.tracking import models
from pipeline.tracking.location import DATA_TAG, KIND_TAG, PARENT_TAG, SPLIT_TAG, find_run
from pipeline.tracking.replay import Replay

MLFLOW_PARENT_TAG = "mlflow.parentRunId"
MOST_PARAMS, MOST_METRICS = 100, 900  # that a call may hold; with tags, of which it takes 100, at most 1,000


def write(mlflow_client: Any, run_id: str, run: Any | None, made: Replay, mark: dict[str, str]) -> None:
    """Writes to the run what events came to, and at last the tag that says so.

    Args:
        run: as it was, where an attempt begins; None where one goes on.
    """
    params = {key: value for key, value in made.params.items() if run is not None and key not in run.data.params}
    if run is not None and made.first is not None and not (run.inputs and run.inputs.dataset_inputs):
        _log_data(mlflow_client, run_id, made.first)
    tags = {key: value for key, value in made.tags.items() if value is not None}
    if run is not None and PARENT_TAG in tags:
        parent = find_run(mlflow_client, run.info.experiment_id, tags[PARENT_TAG])
        if parent is not None:
            tags[MLFLOW_PARENT_TAG] = parent.info.run_id
    _remove(mlflow_client, run_id, made.tags.keys() - tags.keys())
    if made.status == "RUNNING" and (run is None or run.info.status != "RUNNING"):
        mlflow_client.update_run(run_id, status="RUNNING")
    one_call = made.status is None and not made.artifacts and not made.model
    _log(mlflow_client, run_id, params, made, tags | mark if one_call else tags)
    if one_call:
        return
    for path, folder in made.artifacts:
        mlflow_client.log_artifact(run_id, str(path), folder)
    if made.model is not None:
        models.keep(mlflow_client, run_id, models.net_model(*made.model))
    if made.status not in (None, "RUNNING"):
        mlflow_client.set_terminated(run_id, made.status, end_time=made.end_time)
    _log(mlflow_client, run_id, {}, Replay(), mark)


def _remove(mlflow_client: Any, run_id: str, tags: set[str]) -> None:
    if tags:
        for tag in sorted(
            tags & mlflow_client.get_run(run_id).data.tags.keys()
        ):  # MLflow rejects one that is not there
            mlflow_client.delete_tag(run_id, tag)


def _log_data(mlflow_client: Any, run_id: str, begin: dict[str, Any]) -> None:
    """The data set of the run, as MLflow shows it: named by its content, made by the stage preprocess."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if not (content := begin["tags"].get(DATA_TAG)):
        return
    name = begin["experiment"]
    source = json.dumps({"stage": "preprocess", "path": f"data/store/{name}", "content_hash": content})
    data = Dataset(name, content[:12], "dvc", source, profile=json.dumps({"split": begin["tags"].get(SPLIT_TAG, "")}))
    context = InputTag("mlflow.data.context", begin["tags"].get(KIND_TAG, "train"))
    mlflow_client.log_inputs(run_id, [DatasetInput(data, [context])])


def _log(mlflow_client: Any, run_id: str, params: dict[str, str], made: Replay, tags: dict[str, str]) -> None:
    """In as few calls as MLflow's limits allow; the tags come with the last one."""
    from mlflow.entities import Metric, Param, RunTag

    entries = [Param(*item) for item in params.items()]
    for start in range(0, len(entries), MOST_PARAMS):
        mlflow_client.log_batch(run_id, params=entries[start : start + MOST_PARAMS])
    points = [Metric(*point) for point in made.points]
    while len(points) > MOST_METRICS:
        mlflow_client.log_batch(run_id, metrics=points[:MOST_METRICS])
        points = points[MOST_METRICS:]
    mlflow_client.log_batch(run_id, metrics=points, tags=[RunTag(*tag) for tag in tags.items()])
