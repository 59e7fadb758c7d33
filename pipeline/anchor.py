"""Where the configuration's paths lead: resolved once, so that every process of a command means the same place."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.config import Config, PathsConfig
from pipeline.errors import PipelineError, printable
from pipeline.workspace import Workspace

SQLITE = "sqlite:///"


def anchor(config: Config, root: Path) -> Config:
    """`config` with absolute paths, in tracking.uri too; ~ is the user's home in every path.

    In DVC's copies of the repository (`Workspace.home`), runs and MLflow's database stay in the repository, or they would
    vanish with the copy. The environment variables PIPELINE_RUNS and PIPELINE_MLRUNS win over the configuration.

    Raises:
        PipelineError: a URL in place of a folder, or a tracking.uri that names another store in each process.
    """
    home = Workspace(root).home
    paths = {}
    for key, value in asdict(config.paths).items():
        variable = f"PIPELINE_{key.upper()}"
        chosen = os.environ.get(variable, value)
        _require_folder(variable if variable in os.environ else f"paths.{key}", chosen)
        paths[key] = str((home / os.path.expanduser(chosen)).resolve())
    _require_folder("data.path", config.data.path)
    published = {key: os.path.expanduser(getattr(config.data, key)) for key in ("path", "mirror")}
    return replace(
        config,
        paths=PathsConfig(**paths),
        data=replace(config.data, **published),
        tracking=replace(config.tracking, uri=_anchored_uri(config.tracking.uri, home)),
    )


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
    if uri and ":" not in uri:  # a folder in MLflow's own format
        return str((root / os.path.expanduser(uri)).resolve())
    return uri
