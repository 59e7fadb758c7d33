"""Where each stage's files lie below the repository's root; dvc.yaml names the same paths."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.config import Config, PathsConfig


@dataclass(frozen=True)
class Workspace:
    root: Path

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
    def leaderboard(self) -> Path:
        return self.root / "sweep" / "leaderboard.json"

    @property
    def ensemble(self) -> Path:
        return self.root / "ensemble"

    @property
    def report(self) -> Path:
        return self.root / "report"

    def metrics(self, stage: str) -> Path:
        return self.root / "metrics" / f"{stage}.json"


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
