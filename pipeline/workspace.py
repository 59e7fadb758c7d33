"""Where each stage's files lie below the repository's root; dvc.yaml names the same paths.

Each data set has a folder of results, experiments/<name>/, so that experiments on two data sets do not overwrite each other.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.atomic import read_json
from pipeline.config import Config, PathsConfig
from pipeline.errors import MissingError, PipelineError, hint, printable

SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Workspace:
    root: Path
    data: str = ""  # name of the experiment's data set

    @property
    def composed(self) -> Path:
        return self.root / "composed.yaml"

    def raw(self, name: str) -> Path:
        """fetch's files of the data set `name`."""
        return self.root / "data" / "raw" / name

    def store(self, name: str) -> Path:
        """preprocess's store of the data set `name`."""
        return self.root / "data" / "store" / name

    @property
    def experiment(self) -> Path:
        """Results of sweep, train, ensemble, evaluate and report on this data set."""
        if not self.data:
            raise RuntimeError("a workspace without a data set has no experiment")
        return self.root / "experiments" / self.data

    def result(self, stage: str) -> Path:
        """A stage's complete result, as JSON."""
        return self.experiment / f"{stage}.json"

    def read_result(self, name: str, stage: str) -> Any:
        """result(`name`), which `stage` writes.

        Raises:
            MissingError: the stage has not run.
        """
        path = self.result(name)
        if not path.is_file():
            raise MissingError(f"{self.shown(path)} is missing; {hint(stage)} writes it")
        return read_json(path, f"{hint(stage)} writes it again")

    def scalars(self, stage: str) -> Path:
        """The few numbers of a stage that `dvc exp show` compares, as JSON."""
        return self.experiment / "metrics" / f"{stage}.json"

    @property
    def leaderboard(self) -> Path:
        return self.experiment / "leaderboard.json"

    @property
    def ensemble(self) -> Path:
        return self.experiment / "ensemble"

    @property
    def report(self) -> Path:
        return self.experiment / "report"

    def shown(self, path: Path) -> Path:
        """`path` relative to the root where it lies below, as messages show it."""
        return path.relative_to(self.root) if path.is_relative_to(self.root) else path


def user_cache() -> Path:
    """This project's folder in XDG_CACHE_HOME or ~/.cache; for a user without a home, a folder that ends with the process."""
    base, home = os.environ.get("XDG_CACHE_HOME"), os.path.expanduser("~")
    if not base and home == "~":
        return Path(_folder_of_process().name)
    return Path(base or Path(home) / ".cache") / "resnet-pipeline"


@cache
def _folder_of_process() -> TemporaryDirectory:
    return TemporaryDirectory(prefix="resnet-pipeline-")


def anchor(config: Config, root: Path) -> Config:
    """`config` with absolute paths, in tracking.uri too; ~ is the user's home in every path.

    `dvc exp run --temp` and `--queue` work in a copy of the workspace below .dvc/tmp of the repository. Runs and MLflow's
    database stay in the repository, or they would vanish with the copy. The environment variables PIPELINE_RUNS and
    PIPELINE_MLRUNS win over the configuration.

    Raises:
        PipelineError: a URL in place of a folder, or a tracking.uri that names another store in each process.
    """
    home = root
    for parent in root.parents:
        if parent.name == ".dvc" and (parent / "tmp") in (root, *root.parents):
            home = parent.parent
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
            f"{name}={printable(value)} is a URL; it must be a folder, which all machines that use it have mounted"
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
