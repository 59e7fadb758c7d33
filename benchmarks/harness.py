"""Two ways to do the same work, timed in turn; what holds of their ratio.

The machine's speed drifts with its other load and its temperature. Runs are therefore interleaved (A B A B ...) and
only the ratio within a pair is judged: both halves of a pair saw the same machine.
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

Rate = Callable[[], float]  # runs once: units of work a second, or seconds
# What a bar limits: the ratio of ours to the reference, ours alone, or by how much ours exceeds the reference.
Judged = Literal["ratio >=", "ratio <=", "ours <=", "excess <="]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is to be measured."""

    name: str
    unit: str  # of both figures
    bar: float | None  # None where there is nothing to reach
    ours: Rate
    reference: Rate
    judged: Judged = "ratio >="
    pairs: int | None = None  # None for as many as the others


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured; an element of metrics/bench.json."""

    name: str
    ours: float  # median
    reference: float
    unit: str
    ratio: float  # median of the pairs' ratios, which is not the ratio of the medians
    spread: list[float]  # least and greatest ratio of a pair
    judged: Judged
    bar: float | None
    holds: bool | None  # whether the median of what is judged, pair by pair, keeps to the bar


def measure(row: Row, pairs: int, told: Callable[[str], None]) -> Measured:
    """Ours and the reference in turn, `pairs` times or as often as the row says.

    Args:
        told: hears a line after each pair.
    """
    ours, reference = [], []
    for _ in range(row.pairs or pairs):
        with quiet():
            ours.append(row.ours())
            reference.append(row.reference())
        told(f"{row.name}: {ours[-1]:,.4g} against {reference[-1]:,.4g} {row.unit}")
    return judge(row, ours, reference)


def judge(row: Row, ours: list[float], reference: list[float]) -> Measured:
    """What pairs of figures come to; of one pair, the spread is a point."""
    ratios = [one / other for one, other in zip(ours, reference, strict=True)]
    judged = {
        "ratio >=": ratios,
        "ratio <=": ratios,
        "ours <=": ours,
        "excess <=": [one - other for one, other in zip(ours, reference, strict=True)],
    }[row.judged]
    holds = None
    if row.bar is not None:
        holds = median(judged) >= row.bar if row.judged == "ratio >=" else median(judged) <= row.bar
    return Measured(
        name=row.name,
        ours=median(ours),
        reference=median(reference),
        unit=row.unit,
        ratio=median(ratios),
        spread=[min(ratios), max(ratios)],
        judged=row.judged,
        bar=row.bar,
        holds=holds,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing on stderr within the block: neither Lightning's remarks nor the progress of what is being measured."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def queued_s() -> float:
    """Seconds that the main thread has waited for a CPU which others were using; 0 where the system does not tell."""
    path = Path("/proc/self/schedstat")
    return int(path.read_text().split()[1]) / 1e9 if path.exists() else 0.0


def show(found: list[Measured], title: str) -> None:
    """Prints one table."""
    # Imported here: `benchmarks.gpu` measures without rich.
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column("measurement", no_wrap=True)
    for column in ("ours", "reference", "unit", "ratio", "spread", "bar", "holds"):
        table.add_column(column, justify="left" if column in ("unit", "bar") else "right", no_wrap=True)
    for row in found:
        low, high = row.spread
        judged = {True: "yes", False: "NO", None: ""}[row.holds]
        table.add_row(
            row.name,
            f"{row.ours:,.4g}" if row.ours < 1000 else f"{row.ours:,.0f}",
            f"{row.reference:,.4g}" if row.reference < 1000 else f"{row.reference:,.0f}",
            row.unit,
            f"{row.ratio:.3f}",
            f"{low:.3f} to {high:.3f}",
            "" if row.bar is None else f"{row.judged} {row.bar:g}",
            judged,
        )
    console = Console()
    console.width = max(console.width, 170)  # a narrow terminal, or none, would cut the figures
    console.print(table)
