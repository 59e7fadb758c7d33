"""Times two ways of doing the same work in turn, and judges their ratio.

A machine's speed drifts with its load and temperature. Runs are therefore interleaved (A B A B ...), and only the
ratio within a pair is judged: both halves of a pair met the same machine.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.data.store import Store

# What a bar limits: the ratio of ours to the reference, ours alone, or by how much ours exceeds the reference.
Judged = Literal["ratio >=", "ratio <=", "ours <=", "excess <="]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A measurement to make. `ours` and `reference` each run once and return a rate or seconds."""

    name: str
    unit: str
    bar: float | None  # None: the row only informs
    ours: Callable[[], float]
    reference: Callable[[], float]
    judged: Judged = "ratio >="
    pairs: int | None = None  # None: as many as the effort says


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The result of a row; an element of metrics/bench.json."""

    name: str
    ours: float  # median
    reference: float
    unit: str
    ratio: float  # median of the pairs' ratios, which is not the ratio of the medians
    spread: list[float]  # least and greatest ratio of a pair
    limited: list[float]  # median, least and greatest of what `judged` limits, pair by pair
    judged: Judged
    bar: float | None
    holds: bool | None  # whether the median of what is limited keeps to the bar


@dataclass(frozen=True)
class Effort:
    """How much is run."""

    pairs: int
    depths: tuple[int, ...]  # of the nets whose training is timed; the first one in all forms
    compiled: bool  # whether to time compiled steps, which takes a minute to prepare
    seconds: float  # of training in each half of a pair, without start-up and warm-up
    batches: int  # of the loader alone
    images: int  # evaluated
    stored: int  # images of the synthetic store


FULL = Effort(pairs=9, depths=(20, 56, 110), compiled=True, seconds=6.0, batches=300, images=5_000, stored=50_000)
QUICK = Effort(pairs=3, depths=(20,), compiled=False, seconds=1.5, batches=60, images=1_000, stored=12_000)


@dataclass(frozen=True)
class Bench:
    """What one call of the command gives to each of its sections."""

    store: Store
    work: Path  # an existing folder, deleted afterwards
    out: Path  # folder of bench.json, for pictures that stay
    device: torch.device
    effort: Effort
    say: Callable[[str], None]  # takes a line after each pair

    def measure(self, row: Row) -> Measured:
        return measure(row, self.effort.pairs, self.say)

    def folder(self, name: str) -> Path:
        """A new folder below `work`."""
        path = self.work / name
        path.mkdir(parents=True)
        return path


def measure(row: Row, pairs: int, say: Callable[[str], None]) -> Measured:
    """Runs ours and the reference in turn, `pairs` times or as often as the row says."""
    ours, reference = [], []
    for _ in range(row.pairs or pairs):
        with quiet():
            ours.append(row.ours())
            reference.append(row.reference())
        say(f"{row.name}: {ours[-1]:,.4g} against {reference[-1]:,.4g} {row.unit}")
    return judge(row, ours, reference)


def judge(row: Row, ours: list[float], reference: list[float]) -> Measured:
    """The verdict on pairs of figures. With one pair, the spread is a point."""
    ratios = [one / other for one, other in zip(ours, reference, strict=True)]
    limited = {
        "ratio >=": ratios,
        "ratio <=": ratios,
        "ours <=": ours,
        "excess <=": [one - other for one, other in zip(ours, reference, strict=True)],
    }[row.judged]
    holds = None
    if row.bar is not None:
        holds = median(limited) >= row.bar if row.judged == "ratio >=" else median(limited) <= row.bar
    return Measured(
        name=row.name,
        ours=median(ours),
        reference=median(reference),
        unit=row.unit,
        ratio=median(ratios),
        spread=[min(ratios), max(ratios)],
        limited=[median(limited), min(limited), max(limited)],
        judged=row.judged,
        bar=row.bar,
        holds=holds,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silences stderr in the block: Lightning's remarks and the progress of what is measured."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch uses one thread in the block: other processes disturb it least, and no idle threads spin."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def queued_s() -> float:
    """Seconds that the main thread has waited for a CPU while others used it; 0 where the system does not tell."""
    path = Path("/proc/self/schedstat")
    return int(path.read_text(encoding="utf-8").split()[1]) / 1e9 if path.exists() else 0.0


def show(rows: list[Measured], title: str) -> None:
    """Prints one table."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column("measurement", no_wrap=True)
    for column in ("ours", "reference", "unit", "median (least to greatest)", "bar", "holds"):
        table.add_column(column, justify="left" if column in ("unit", "bar") else "right", no_wrap=True)
    for row in rows:
        middle, low, high = row.limited
        figures = [f"{figure:,.4g}" if figure < 1000 else f"{figure:,.0f}" for figure in (row.ours, row.reference)]
        bar = "" if row.bar is None else f"{row.judged} {row.bar:g}"
        verdict = {True: "yes", False: "NO", None: ""}[row.holds]
        limited = f"{row.judged.split()[0]} {middle:.3f} ({low:.3f} to {high:.3f})"
        table.add_row(row.name, *figures, row.unit, limited, bar, verdict)
    console = Console()
    console.width = max(console.width, 170)  # a narrow terminal, or none, would cut the figures
    console.print(table)
