"""Where each stage's files lie below the repository's root; dvc.yaml names the same paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
