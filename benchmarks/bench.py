"""What every section of `make bench` is given, and how it measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.harness import Measured, Row, measure
from pipeline.data.store import Store


@dataclass(frozen=True)
class Effort:
    """How much is run."""

    pairs: int
    depths: tuple[int, ...]  # of the nets whose training is timed, the first one in all forms
    compiled: bool  # whether steps are compiled where that is faster, which takes a minute to find out
    seconds: float  # of training in each half of a pair, start-up and warm-up aside
    batches: int  # of the loader alone
    images: int  # evaluated
    stored: int  # images of the synthetic store


FULL = Effort(pairs=9, depths=(20, 56, 110), compiled=True, seconds=6.0, batches=300, images=5_000, stored=50_000)
QUICK = Effort(pairs=3, depths=(20,), compiled=False, seconds=1.5, batches=60, images=1_000, stored=12_000)


@dataclass(frozen=True)
class Bench:
    """One call of the command."""

    store: Store  # images of one size in arrays
    work: Path  # an existing folder, deleted afterwards
    out: Path  # folder of bench.json, for pictures that are to stay
    device: torch.device
    effort: Effort
    told: Callable[[str], None]  # hears a line after each pair

    def measure(self, row: Row) -> Measured:
        return measure(row, self.effort.pairs, self.told)

    def folder(self, name: str) -> Path:
        """A new folder below `work`."""
        path = self.work / name
        path.mkdir(parents=True)
        return path


Section = Callable[[Bench], list[Measured]]
