"""A document as one self-contained HTML file: styles inline, figures as data URIs, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from html import escape

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
from pipeline.report.style import STYLE
from pipeline.report.theme import DPI

Images = Mapping[str, Mapping[str, bytes]]  # figure -> theme (light, dark) -> PNG

# The policy makes "no network" a promise that the browser keeps.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="subtitle">{subtitle}</p>
<nav>{links}</nav>
</header>
<main>
{sections}
</main>
</body>
</html>
"""


def to_html(document: Document, images: Images) -> str:
    """The page; `images` holds both themes of every figure of the document."""
    sections = [
        f'<section id="{escape(section.anchor)}">\n<h2>{escape(section.title)}</h2>\n'
        + "\n".join(_block(block, images) for block in section.blocks)
        + "\n</section>"
        for section in document.sections
    ]
    return PAGE.format(
        title=escape(document.title),
        subtitle=escape(document.subtitle),
        style=STYLE,
        links="\n".join(f'<a href="#{escape(s.anchor)}">{escape(s.title)}</a>' for s in document.sections),
        sections="\n".join(sections),
    )


def _block(block: Block, images: Images) -> str:
    match block:
        case Paragraph(text):
            return f"<p>{_text(text)}</p>"
        case Listing(items):
            return "<ul>\n" + "\n".join(f"<li>{_text(item)}</li>" for item in items) + "\n</ul>"
        case Tiles(tiles):
            cells = "\n".join(
                f'<div><dt>{escape(t.label)}</dt><dd class="value">{escape(t.value)}</dd><dd>{escape(t.detail)}</dd></div>'
                for t in tiles
            )
            return f'<dl class="tiles">\n{cells}\n</dl>'
        case Table():
            return _table(block)
        case Figure():
            return _figure(block, images[block.name])
        case Picture():  # the page's policy lets it show nothing but its own figures
            return f'<p><a href="{escape(block.path)}">{escape(block.alt)}</a>: {_text(block.caption)}</p>'
        case Listed(text):
            return f"<pre><code>{escape(text)}</code></pre>"
        case Fold():
            inner = "\n".join(_block(child, images) for child in block.blocks)
            return f"<details>\n<summary>{escape(block.summary)}</summary>\n{inner}\n</details>"


def _table(table: Table) -> str:
    sides = ["right" if side == "r" else "left" for side in table.align]
    head = "".join(f'<th scope="col" class="{s}">{escape(n)}</th>' for s, n in zip(sides, table.header, strict=True))
    rows = []
    for i, cells in enumerate(table.rows):
        inner = "".join(f'<td class="{s}">{_text(cell)}</td>' for s, cell in zip(sides, cells, strict=True))
        rows.append(f'<tr class="strong">{inner}</tr>' if i in table.strong else f"<tr>{inner}</tr>")
    caption = f"<caption><span>{_text(table.caption)}</span></caption>\n" if table.caption else ""
    body = "\n".join(rows)
    return (
        f'<div class="wide"><table>\n{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
    )


def _figure(figure: Figure, themes: Mapping[str, bytes]) -> str:
    return (
        f'<figure id="figure-{escape(figure.name)}"><div class="wide"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{_data_uri(themes["dark"])}">'
        f'<img src="{_data_uri(themes["light"])}" alt="{escape(figure.alt)}" {_size(themes["light"])}></picture></div>'
        f"<figcaption>{_text(figure.caption)}</figcaption></figure>"
    )


def _size(png: bytes) -> str:
    """Width and height attributes, so that text is equally large in all figures and nothing moves while loading."""
    width, height = (round(pixels * 96 / DPI) for pixels in struct.unpack(">II", png[16:24]))
    return f'width="{width}" height="{height}" style="--natural: {width}px"'


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _text(text: Text) -> str:
    return "".join(map(_span, spans(text)))


def _span(span: Span) -> str:
    match span:
        case Code(text):
            return f"<code>{escape(text)}</code>"
        case Strong(text):
            return f"<strong>{escape(text)}</strong>"
        case Verdict(status):
            return f'<span class="verdict {escape(status.replace(" ", "-"))}">{escape(status)}</span>'
        case str():
            return escape(span)
