"""Where each stage's files lie below the repository's root; dvc.yaml names the same paths.

What the stages leave for one data set lies in experiments/<data set>/, so that another's never takes its place.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.atomic import read_json
from pipeline.config import Config, PathsConfig


@dataclass(frozen=True)
class Workspace:
    root: Path
    data: str = ""  # name of the data set whose experiment this is

    @property
    def composed(self) -> Path:
        return self.root / "composed.yaml"

    def raw(self, name: str) -> Path:
        """What fetch made of data set `name`."""
        return self.root / "data" / "raw" / name

    def store(self, name: str) -> Path:
        """What preprocess made of data set `name`."""
        return self.root / "data" / "store" / name

    @property
    def experiment(self) -> Path:
        """What sweep, train, ensemble, evaluate and report made of this data set."""
        if not self.data:
            raise RuntimeError("a workspace without a data set has no experiment")
        return self.root / "experiments" / self.data

    def result(self, stage: str) -> Path:
        """All that a stage found, as JSON."""
        return self.experiment / f"{stage}.json"

    def read_result(self, name: str, stage: str) -> Any:
        """result(`name`), which `stage` writes.

        Raises:
            FileNotFoundError: the stage has not run.
        """
        path = self.result(name)
        if not path.is_file():
            raise FileNotFoundError(
                f"{self.shown(path)} is missing; `pipeline {stage}` with the same overrides writes it"
            )
        return read_json(path)

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
        """`path` as a user at the root types it."""
        return path.relative_to(self.root) if path.is_relative_to(self.root) else path


def anchor(config: Config, root: Path) -> Config:
    """`config` with absolute paths.

    A copy of the workspace that `dvc exp run --temp` or `--queue` made lies below .dvc/tmp of the repository; runs
    and MLflow's store are the repository's there too, or they would be lost with the copy. The environment variables
    PIPELINE_RUNS and PIPELINE_MLRUNS win over the configuration.
    """
    home = root
    for parent in root.parents:
        if parent.name == ".dvc" and (parent / "tmp") in (root, *root.parents):
            home = parent.parent
    paths = {
        key: str((home / os.environ.get(f"PIPELINE_{key.upper()}", value)).resolve())
        for key, value in asdict(config.paths).items()
    }
    return replace(config, paths=PathsConfig(**paths))
