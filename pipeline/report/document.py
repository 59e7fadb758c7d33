"""A report as data: blocks that `html` and `markdown` each write out, so that no sentence is kept twice.

Text is a string or a sequence of strings and marked spans; both writers escape every string.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Code:
    """A span set in a fixed-width face."""

    text: str


@dataclass(frozen=True)
class Strong:
    text: str


@dataclass(frozen=True)
class Verdict:
    """A status, set apart by colour and word."""

    status: str


Span = str | Code | Strong | Verdict
Text = Span | tuple[Span, ...]


@dataclass(frozen=True)
class Paragraph:
    text: Text


@dataclass(frozen=True)
class Listing:
    """Items with a bullet each."""

    items: Sequence[Text]


@dataclass(frozen=True)
class Tile:
    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Tiles:
    """The headline numbers."""

    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Table:
    """align: l or r for each column. strong: rows set in bold, by index."""

    header: Sequence[str]
    rows: Sequence[Sequence[Text]]
    align: str
    caption: Text = ""
    strong: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.header) == len(self.align) for row in self.rows), "ragged table"


@dataclass(frozen=True)
class Figure:
    """draw: theme -> matplotlib Figure; called once a theme when the report is written."""

    name: str
    caption: Text
    alt: str
    draw: Callable[[Any], Any]


@dataclass(frozen=True)
class Picture:
    """A figure that is a file already. path: from where the document lies."""

    path: str
    caption: Text
    alt: str


@dataclass(frozen=True)
class Listed:
    """A command or other text kept as it is, line by line."""

    text: str


@dataclass(frozen=True)
class Fold:
    """Blocks that a reader opens."""

    summary: str
    blocks: Sequence[Block]


Block = Paragraph | Listing | Tiles | Table | Figure | Picture | Listed | Fold


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    title: str
    subtitle: str
    sections: Sequence[Section]

    def figures(self) -> Iterator[Figure]:
        """Every figure, in the order of reading."""
        for section in self.sections:
            yield from _figures(section.blocks)


def _figures(blocks: Sequence[Block]) -> Iterator[Figure]:
    for block in blocks:
        if isinstance(block, Figure):
            yield block
        elif isinstance(block, Fold):
            yield from _figures(block.blocks)


def spans(text: Text) -> tuple[Span, ...]:
    return text if isinstance(text, tuple) else (text,)


def percent(fraction: float | None, digits: int = 2) -> str:
    """0.0875 -> 8.75%; a missing value is a dash."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f}%"


def interval(bounds: Sequence[float] | None) -> str:
    """(0.0821, 0.0932) -> 8.21 to 9.32%; a missing one is a dash."""
    if bounds is None:
        return "–"
    return f"{signed(100 * bounds[0], False)} to {signed(100 * bounds[1], False)}%"


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign: -0.0123 -> −1.23."""
    return signed(100 * difference, True)


def signed(value: float, plus: bool) -> str:
    """Two decimals, a true minus sign, and no sign before zero."""
    text = f"{abs(value):.2f}"
    if float(text) == 0:
        return text
    return f"−{text}" if value < 0 else f"+{text}" if plus else text


def count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def number(value: float | None) -> str:
    """With as many digits as it has; a missing one is a dash."""
    return "–" if value is None else f"{value:g}"


def short(value: float) -> str:
    """Three digits of a large count, as the paper prints sizes: 40.6M, 3.86×10⁹."""
    return f"{value / 1e9:.3g}×10⁹" if value >= 999.5e6 else f"{value / 1e6:.3g}M"


def plural(n: int, noun: str) -> str:
    """1 run, 2 runs, 2 classes."""
    many = f"{noun}es" if noun.endswith("s") else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{n:,} {noun if n == 1 else many}"
