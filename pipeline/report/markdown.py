"""The report is written as Markdown; `page` renders it as HTML.

Strings are escaped when they enter the document, except `Markdown`, which the functions here return.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#$])")
_SPACE = re.compile(r"\s+")


class Markdown(str):
    """Text that is Markdown already."""


@dataclass(frozen=True)
class Figure:
    """draw: theme -> matplotlib Figure; called once for each theme when the report is written."""

    name: str
    caption: str
    alt: str
    draw: Callable[[Any], Any]


@dataclass(frozen=True)
class Drawing:
    """svg: a picture that looks right on light and dark pages; it lies in the page itself and in a file."""

    name: str
    alt: str
    svg: str


@dataclass(frozen=True)
class Gallery:
    """Drawings beside and below each other, as many as the screen has room for."""

    caption: str
    drawings: Sequence[Drawing]


Block = Markdown | Figure | Gallery


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    blocks: Sequence[Block]

    @property
    def body(self) -> str:
        return "\n\n".join(_written(block) for block in self.blocks)


@dataclass(frozen=True)
class Document:
    title: str
    subtitle: str
    sections: Sequence[Section]

    def figures(self) -> Iterator[Figure]:
        """Every figure, in reading order."""
        for section in self.sections:
            yield from (block for block in section.blocks if isinstance(block, Figure))

    def drawings(self) -> Iterator[Drawing]:
        """Those of every gallery, in reading order."""
        for section in self.sections:
            for block in section.blocks:
                yield from block.drawings if isinstance(block, Gallery) else ()

    def __str__(self) -> str:
        """The whole document; its pictures are links to figures/<name>.png and .svg."""
        parts = [f"# {escape(self.title)}", escape(self.subtitle)]
        for section in self.sections:
            parts += [f"## {escape(section.title)}", section.body]
        return "\n\n".join(parts) + "\n"


def _written(block: Block) -> str:
    if isinstance(block, Figure):
        return picture(f"figures/{block.name}.png", block.alt, block.caption)
    if isinstance(block, Gallery):
        links = (f"![{escape(each.alt)}](figures/{each.name}.svg)" for each in block.drawings)
        return "\n".join(links) + f"\n\n*{escape(block.caption)}*"
    return block


def escape(text: str) -> Markdown:
    """`text` on one line, with Markdown's special characters escaped."""
    if isinstance(text, Markdown):
        return text
    return Markdown(_SPECIAL.sub(r"\\\1", _SPACE.sub(" ", text).replace("&", "&amp;")))


def paragraph(*parts: str) -> Markdown:
    return Markdown("".join(map(escape, parts)))


def strong(text: str) -> Markdown:
    return Markdown(f"**{escape(text)}**")


def code(text: str) -> Markdown:
    """A code span. Tables split cells before code spans, so a bar is escaped even here."""
    quotes = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return Markdown(quotes + pad + " ".join(text.split()).replace("|", r"\|") + pad + quotes)


def bullets(items: Sequence[str]) -> Markdown:
    return Markdown("\n".join(f"- {escape(item)}" for item in items))


def tiles(items: Sequence[tuple[str, str, str]]) -> Markdown:
    """Headline numbers: label, value, detail."""
    return Markdown(
        "\n".join(f"- {escape(label)}\\\n  {strong(value)}\\\n  {escape(detail)}" for label, value, detail in items)
    )


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    align: str,
    caption: str = "",
    bold: Collection[int] = (),
) -> Markdown:
    """align: l or r for each column. bold: indices of rows."""
    assert all(len(row) == len(header) == len(align) for row in rows), "ragged table"
    lines = [_row(header), _row([Markdown("---:" if side == "r" else "---") for side in align])]
    lines += [_row([strong(cell) if cell and i in bold else cell for cell in row]) for i, row in enumerate(rows)]
    return Markdown((f"*{escape(caption)}*\n\n" if caption else "") + "\n".join(lines))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(escape, cells))} |"


def listing(text: str) -> Markdown:
    """Commands or other text, verbatim."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Markdown(f"{fence}\n{text}\n{fence}")


def picture(path: str, alt: str, caption: str) -> Markdown:
    return Markdown(f"![{escape(alt)}]({path})\n\n*{escape(caption)}*")


def fold(summary: str, *blocks: Markdown) -> Markdown:
    """Blocks that the reader unfolds."""
    return Markdown(f"<details>\n<summary>{escape(summary)}</summary>\n\n" + "\n\n".join(blocks) + "\n\n</details>")


def percent(fraction: float | None, digits: int = 2) -> str:
    """0.0875 -> 8.75%; a missing value is a dash."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f}%"


def interval(bounds: Sequence[float] | None) -> str:
    """(0.0821, 0.0932) -> 8.21 to 9.32%; a missing one is a dash."""
    if bounds is None:
        return "–"
    return f"{signed(100 * bounds[0], plus=False)} to {signed(100 * bounds[1], plus=False)}%"


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign: -0.0123 -> −1.23."""
    return signed(100 * difference)


def signed(value: float, *, plus: bool = True) -> str:
    """Two decimals, a true minus sign, and no sign before zero."""
    text = f"{abs(value):.2f}"
    if float(text) == 0:
        return text
    return f"−{text}" if value < 0 else f"+{text}" if plus else text


def count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def number(value: float | None) -> str:
    """All its digits; a dash for a missing value."""
    return "–" if value is None else f"{value:g}"


def short(value: float) -> str:
    """Three digits of a large count, in all figures and tables: 0.464M, 500M, 3.86G."""
    return f"{value / 1e9:.3g}G" if value >= 999.5e6 else f"{value / 1e6:.3g}M"


def plural(n: int, noun: str) -> str:
    """1 run, 2 runs, 2 classes."""
    many = f"{noun}es" if noun.endswith("s") else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{n:,} {noun if n == 1 else many}"
