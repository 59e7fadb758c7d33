"""Where the configuration's paths lead: resolved once, so that every process of a command means the same place."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, replace
from importlib.metadata import entry_points
from pathlib import Path

from pipeline.config import Config, PathsConfig
from pipeline.credentials import refusal
from pipeline.errors import PipelineError, folders, printable
from pipeline.workspace import Workspace

SQLITE = "sqlite:///"
ENVIRONMENT = "env://"  # and the name of a variable, in place of an address that composed.yaml must not keep
_SERVER = re.compile(r"(https?|(sqlite|postgresql|mysql|mssql)(\+\w+)?)://|databricks", re.IGNORECASE)  # MLflow's own


def anchor(config: Config, root: Path) -> Config:
    """`config` with absolute paths, in tracking.uri too, and with addresses as the environment has them now.

    ~ is the user's home in every path. In DVC's copies of the repository (`Workspace.home`), runs and MLflow's database stay
    in the repository, or they would vanish with the copy. The environment variables PIPELINE_RUNS and PIPELINE_MLRUNS win over
    the configuration.

    Raises:
        PipelineError: a URL or nothing in place of a folder, an address with credentials, or a tracking.uri that MLflow does not
            know or that names another store in each process.
    """
    home = Workspace(root).home
    paths = {}
    folders.clear()
    for key, value in asdict(config.paths).items():
        variable = f"PIPELINE_{key.upper()}"
        given = os.environ.get(variable)
        chosen = given or value
        name = variable if given else f"paths.{key}"
        _require_folder(name, chosen)
        if not chosen:
            raise PipelineError(f"paths.{key} is empty; name a folder of its own (override: paths.{key}={key})")
        paths[key] = folders[name] = str((home / os.path.expanduser(chosen)).resolve())
    _require_folder("data.path", config.data.path)
    published = {key: os.path.expanduser(getattr(config.data, key)) for key in ("path", "mirror")}
    uri, storage = _present(config.tracking.uri), _present(config.cluster.storage)
    if config.tracking.uri and not uri:
        variable = printable(config.tracking.uri.removeprefix(ENVIRONMENT))
        raise PipelineError(
            f"tracking.uri={config.tracking.uri}, and the environment has no {variable}; export the address of an MLflow server "
            f"({variable}=http://HOST:5000), or track runs on this machine (override: tracking=local)"
        )
    if sentence := refusal({"tracking.uri": uri, "cluster.storage": storage}):
        raise PipelineError(sentence)
    return replace(
        config,
        paths=PathsConfig(**paths),
        data=replace(config.data, **published),
        cluster=replace(config.cluster, storage=storage),
        tracking=replace(config.tracking, uri=_anchored_uri(uri, home)),
    )


def _present(address: str) -> str:
    """The address, "" where it is that of a variable that the environment lacks."""
    return os.environ.get(address.removeprefix(ENVIRONMENT), "") if address.startswith(ENVIRONMENT) else address


def _require_folder(name: str, value: str) -> None:
    if "://" in value:
        raise PipelineError(
            f"{name}={printable(value)} is a URL; it must be a folder, on this machine or mounted by all that use it. A store that "
            "machines share by URL is named beside it (cluster.storage, PIPELINE_STORAGE)"
        )


def _anchored_uri(uri: str, root: Path) -> str:
    """Ray's workers run in folders of their own, where a relative path would be another store."""
    if uri.startswith(SQLITE):
        path = uri.removeprefix(SQLITE)
        if path in ("", ":memory:"):
            raise PipelineError(
                f"tracking.uri={uri} is a store in memory, which ends with each process; name a file (override: "
                f"tracking.uri={SQLITE}mlruns/mlflow.db) or a server"
            )
        return f"{SQLITE}{(root / os.path.expanduser(path)).resolve()}"
    scheme, colon, _ = uri.partition(":")
    if not uri or _SERVER.match(uri) or (colon and entry_points(group="mlflow.tracking_store", name=scheme)):
        return uri
    if (not colon or scheme == "file") and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1"):
        return uri if colon else str((root / os.path.expanduser(uri)).resolve())
    address = uri.rpartition("://")[2]
    advice = f"http://{address}" if re.match(r"[\w.-]+:\d", address) else f"{SQLITE}mlruns/mlflow.db"
    raise PipelineError(
        f"tracking.uri={printable(uri)} has no scheme known to MLflow, which refuses folders; name a server or a database "
        f"(override: tracking.uri={advice})"
    )
