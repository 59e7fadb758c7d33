"""A document as GitHub's Markdown; figures are relative links."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.report.document import (
    Block,
    Code,
    Document,
    Figure,
    Fold,
    Listed,
    Listing,
    Paragraph,
    Picture,
    Span,
    Strong,
    Table,
    Text,
    Tiles,
    Verdict,
    spans,
)

SPECIAL = re.compile(r"([\\`*_\[\]<>|~#$])")


def to_markdown(document: Document) -> str:
    """The whole document, its figures as figures/<name>.png."""
    parts = [f"# {_escape(document.title)}", _escape(document.subtitle)]
    for section in document.sections:
        parts += [f"## {_escape(section.title)}", *map(_block, section.blocks)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Paragraph(text):
            return _text(text)
        case Listing(items):
            return "\n".join(f"- {_text(item)}" for item in items)
        case Tiles(tiles):
            return "\n".join(f"- **{_escape(t.label)}: {_escape(t.value)}** ({_escape(t.detail)})" for t in tiles)
        case Table():
            return table(block)
        case Figure():
            return _block(Picture(f"figures/{block.name}.png", block.caption, block.alt))
        case Picture():
            return f"![{_escape(block.alt)}]({block.path})\n\n*{_text(block.caption)}*"
        case Listed(text):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            return f"{fence}\n{text}\n{fence}"
        case Fold():
            inner = "\n\n".join(map(_block, block.blocks))
            return f"<details>\n<summary>{_escape(block.summary)}</summary>\n\n{inner}\n\n</details>"


def table(block: Table) -> str:
    rule = ["---:" if side == "r" else "---" for side in block.align]
    rows = [_row([_escape(name) for name in block.header]), _row(rule)]
    for i, cells in enumerate(block.rows):
        rows.append(_row([_strong(_text(cell)) if i in block.strong else _text(cell) for cell in cells]))
    caption = f"*{_text(block.caption)}*\n\n" if block.caption else ""
    return caption + "\n".join(rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _strong(cell: str) -> str:
    return f"**{cell}**" if cell and not cell.startswith("**") else cell


def _text(text: Text) -> str:
    return "".join(map(_span, spans(text)))


def _span(span: Span) -> str:
    match span:
        case Code(text):
            # A cell's border wins over a code span, so the bar is escaped there too; a backtick needs longer quotes.
            quotes = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
            pad = " " if "`" in text else ""
            return quotes + pad + " ".join(text.split()).replace("|", r"\|") + pad + quotes
        case Strong(text) | Verdict(text):
            return f"**{_escape(text)}**"
        case str():
            return _escape(span)


def _escape(text: str) -> str:
    edges = (" " if text[:1].isspace() else "", " " if text[-1:].isspace() else "")
    words = " ".join(text.split())
    return edges[0] + SPECIAL.sub(r"\\\1", words.replace("&", "&amp;")) + (edges[1] if words else "")
