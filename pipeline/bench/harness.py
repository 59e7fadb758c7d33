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

Rate = Callable[[], float]  # runs once; units of work a second


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is to be measured."""

    name: str
    unit: str  # of both rates
    bar: float | None  # the ratio that ours must reach; None where there is nothing to reach
    ours: Rate
    reference: Rate


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured; an element of metrics/bench.json."""

    name: str
    ours: float  # median rate
    reference: float
    unit: str
    ratio: float  # median of the pairs' ratios, which is not the ratio of the medians
    spread: list[float]  # least and greatest ratio of a pair
    bar: float | None
    holds: bool | None  # whether the ratio reaches the bar


def measure(row: Row, pairs: int, told: Callable[[str], None]) -> Measured:
    """Ours and the reference in turn, `pairs` times.

    Args:
        told: hears a line after each pair.
    """
    ours, reference, ratios = [], [], []
    for _ in range(pairs):
        with quiet():
            ours.append(row.ours())
            reference.append(row.reference())
        ratios.append(ours[-1] / reference[-1])
        told(f"{row.name}: {ratios[-1]:.3f}")
    ratio = median(ratios)
    return Measured(
        name=row.name,
        ours=median(ours),
        reference=median(reference),
        unit=row.unit,
        ratio=ratio,
        spread=[min(ratios), max(ratios)],
        bar=row.bar,
        holds=None if row.bar is None else ratio >= row.bar,
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
    # Imported here: `pipeline.bench.gpu` measures without rich.
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column("measurement", no_wrap=True)
    for column in ("ours", "reference", "unit", "ratio", "spread", "bar", "holds"):
        table.add_column(column, justify="left" if column == "unit" else "right", no_wrap=True)
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
            "" if row.bar is None else f"{row.bar:g}",
            judged,
        )
    console = Console()
    console.width = max(console.width, 140)  # a narrow terminal, or none, would cut the figures
    console.print(table)
