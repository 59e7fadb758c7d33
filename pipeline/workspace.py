"""Where each stage's files lie below the repository's root; dvc.yaml names the same paths.

Each data set has a folder of results, experiments/<name>/, so that experiments on two data sets do not overwrite each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.atomic import read_json
from pipeline.errors import MissingError, hint


@dataclass(frozen=True)
class Workspace:
    root: Path
    data: str = ""  # name of the experiment's data set

    @property
    def home(self) -> Path:
        """The repository, where relative paths of the configuration start.

        `dvc exp run --temp` and `--queue` work in a copy of it below its .dvc/tmp, which is then `root`.
        """
        for parent in self.root.parents:
            if parent.name == ".dvc" and (parent / "tmp") in (self.root, *self.root.parents):
                return parent.parent
        return self.root

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
    def trace(self) -> Path:
        """What trainer.debug=profile records."""
        return self.experiment / "trace.json"

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
