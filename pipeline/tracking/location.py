"""Where MLflow is, the tags that this project sets, and how runs are looked up by key."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, first_line, hint
from pipeline.tracking import database

_OF_THE_DISK = re.compile("readonly database|disk is full|disk I/O error|No space left|No locks")  # SQLite's words
PAGE = 200  # runs a search returns at once
UI = "make ui"  # serves mlruns/mlflow.db of the repository, wherever runs are tracked

KEY_TAG = "pipeline.key"
PARENT_TAG = "pipeline.parent"  # the parent's key; becomes mlflow.parentRunId when the run is created
KIND_TAG = "pipeline.kind"  # train, search, adopted, sweep, ensemble
DATA_TAG = "pipeline.data"  # the store's content hash
ADOPTED = "adopted"
SEARCH = "search"  # a training that only chose values for others, or that others go on from, shorter than they are
CONTINUES_TAG = "pipeline.continues"  # key of the run from whose last checkpoint a run goes on
SPLIT_TAG = "pipeline.split"
STATUS_TAG = "pipeline.status"  # finished, or stopped by a sweep's scheduler
NET_TAG = "pipeline.net"  # JSON of `pipeline.record.Net`, set before training and again with its results
ERROR_TAG = "pipeline.last_error"  # what ended the last attempt early; a run that ends has none
CHECKPOINT_TAG = "pipeline.checkpoint_sha256"
SOURCE_TAG = "pipeline.source"  # of an adopted net: its file and its weights' fingerprint
COMPILED_TAG = "pipeline.compiled"  # true or false, what trainer.compile resolved to
VARIED_TAG = "pipeline.varied"  # of a trial: the keys that its sweep varies
NOTE_TAG = "mlflow.note.content"  # what MLflow shows as the description
SHIPPED_TAG = "pipeline.shipped"  # how much of the run's journal MLflow has, see `pipeline.tracking.journal.mark`


@dataclass(frozen=True)
class Location:
    """Where runs are tracked: an MLflow URI, and the artifact folder of a local store ("" where a server decides)."""

    uri: str
    artifacts: str = ""


def locate(uri: str, mlruns: str | Path) -> Location:
    """The location that tracking.uri names; "" is SQLite and a folder below `mlruns`, which is created."""
    if uri:
        return Location(uri)
    folder = Path(mlruns).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return Location(f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri())


def pages(location: Location, home: Path) -> str:
    """The command that shows a SQLite file's runs in a browser; "" for a server, which does so at its address.

    Args:
        home: the repository.
    """
    path = database.file_of(location.uri)
    if path == (home / "mlruns").resolve() / "mlflow.db":
        return UI
    return f"mlflow server --backend-store-uri {shlex.quote(location.uri)}" if path else ""


def client(location: Location) -> Any:
    """An MlflowClient for `location`, whatever server the environment names.

    A SQLite database is made if there is none.

    Raises:
        PipelineError: a damaged database, or one of another version of MLflow.
    """
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # warns that an environment of uv has no pip
    from mlflow import MlflowClient

    if path := database.file_of(location.uri):
        database.make_ready(path, location.artifacts)
    return MlflowClient(tracking_uri=location.uri, registry_uri=location.uri)


def command(location: Location, words: str) -> str:
    """The command `mlflow` with these words, in backquotes, told where runs are: by itself it would open another store."""
    return f"`MLFLOW_TRACKING_URI={shlex.quote(location.uri)} mlflow {words}`"


def require_answer(location: Location, purpose: str) -> None:
    """Raises PipelineError, a sentence that begins with `purpose`, where MLflow does not answer."""
    try:
        client(location).search_experiments(max_results=1)
    except PipelineError:
        raise
    except Exception as error:  # requests', SQLAlchemy's or MLflow's, as the URI's scheme has it
        if _OF_THE_DISK.search(str(error)):
            raise  # the store answers; its disk has a sentence of its own
        raise PipelineError(
            f"{purpose}, but MLflow at {location.uri} does not answer ({first_line(error)}); start it, or correct "
            "tracking.uri"
        ) from error


def experiment_id(mlflow_client: Any, name: str, location: Location) -> str:
    """Id of the experiment, created if absent; concurrent callers get the same one.

    Raises:
        PipelineError: the experiment was deleted. Its name is taken, and to restore it restores all of its runs.
    """
    from mlflow.exceptions import MlflowException

    experiment = mlflow_client.get_experiment_by_name(name)
    if experiment is None:
        artifacts = f"{location.artifacts}/{name}" if location.artifacts else None
        try:
            return mlflow_client.create_experiment(name, artifact_location=artifacts)
        except MlflowException:
            experiment = mlflow_client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if is_deleted(experiment):
        raise PipelineError(
            f"the experiment {name} was deleted in MLflow at {location.uri}; {hint('sync')} restores it with its runs"
        )
    return experiment.experiment_id


def is_deleted(entity: Any) -> bool:
    """Whether an experiment, or the info of a run, is one that MLflow keeps until `mlflow gc`."""
    return entity.lifecycle_stage == "deleted"


def find_run(mlflow_client: Any, experiment: str, key: str) -> Any | None:
    """The run with this key that is not deleted, or None."""
    runs = mlflow_client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
    return runs[0] if runs else None


def search(mlflow_client: Any, experiments: Sequence[str], condition: str, *, deleted: bool = False) -> Iterator[Any]:
    """Every run of the experiments that meets the condition, page by page; the deleted ones too if asked."""
    from mlflow.entities import ViewType

    token, view = None, ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    while experiments:
        page = mlflow_client.search_runs(experiments, condition, view, PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return
