"""The report's Markdown as a page of HTML, for wide screens and phones, light and dark."""

from __future__ import annotations

import base64
import html
import re
import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pipeline.report import markdown as md
from pipeline.report.claims import STATUSES
from pipeline.report.theme import DARK, DPI, LIGHT

Images = Mapping[str, Mapping[str, bytes]]  # figure -> light, dark, narrow light, narrow dark -> PNG
FIGURE = re.compile(r"figures/(.+)\.png")
DRAWING = re.compile(r"figures/(.+)\.svg")
PHONE = "(max-width: 40rem)"  # page.html has the same
CARDS_FROM = 4  # columns; on a phone, a row of such a table is a card
LONG = 40  # characters; a cell with more takes a line of its card for itself


def to_html(document: md.Document, images: Images) -> str:
    """One self-contained file that loads nothing; `images` holds both themes of every figure of the document."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("pipeline.report", "."), autoescape=True)
    drawings = {drawing.name: drawing.svg for drawing in document.drawings()}
    bodies = {section.anchor: _rendered(section.body, images, drawings) for section in document.sections}
    return environment.get_template("page.html").render(document=document, bodies=bodies, light=LIGHT, dark=DARK)


def _rendered(markdown: str, images: Images, drawings: Mapping[str, str]) -> str:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(markdown)
    _label_cells(tokens)
    for opening, inline in pairwise(tokens):
        if inline.type != "inline" or not inline.children:
            continue
        children = inline.children
        picture = FIGURE.fullmatch(str(children[0].attrs.get("src", "")))
        if picture:
            children[0].type = "html_inline"
            children[0].content = _picture(images[picture[1]], children[0].content)
        elif DRAWING.fullmatch(str(children[0].attrs.get("src", ""))):
            opening.attrSet("class", "gallery")
            for child in children:
                if drawing := DRAWING.fullmatch(str(child.attrs.get("src", ""))):
                    child.type, child.content = "html_inline", drawings[drawing[1]]
        elif opening.type == "paragraph_open" and (children[0].type, children[-1].type) == ("em_open", "em_close"):
            opening.attrSet("class", "caption")
        for mark, text in pairwise(children):
            if mark.type == "strong_open" and text.content in STATUSES:
                mark.attrSet("class", f"verdict {text.content.replace(' ', '-')}")
    return str(parser.renderer.render(tokens, parser.options, {}))


def _label_cells(tokens: Sequence[Any]) -> None:
    """Gives cells their column's name, and wide tables and long cells their class: what a phone needs to show rows as cards."""
    table: Any = None
    names: list[str] = []
    column = 0
    for opening, inline in pairwise(tokens):
        if opening.type == "table_open":
            table, names = opening, []
        elif opening.type == "tr_open":
            column = 0
        elif opening.type == "th_open":
            names.append(_text(inline))
            table.attrSet("class", "wide" if len(names) >= CARDS_FROM else "slim")
        elif opening.type == "td_open":
            opening.attrSet("data-label", names[column])
            if len(_text(inline)) > LONG:
                opening.attrSet("class", "long")
            column += 1


def _text(inline: Any) -> str:
    return "".join(child.content for child in inline.children or [])


def _picture(themes: Mapping[str, bytes], alt: str) -> str:
    """Width and height are given so that text is equally large in all figures and nothing moves while loading."""
    dark = "(prefers-color-scheme: dark)"
    media = {"narrow dark": f"{PHONE} and {dark}", "narrow light": PHONE, "dark": dark}
    sources = "".join(
        f'<source media="{when}" srcset="{_data(themes[name])}" {_size(themes[name])}>' for name, when in media.items()
    )
    light = themes["light"]
    return f'<picture>{sources}<img src="{_data(light)}" alt="{html.escape(alt)}" {_size(light)}></picture>'


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _size(png: bytes) -> str:
    width, height = (round(pixels * 96 / DPI) for pixels in struct.unpack(">II", png[16:24]))
    return f'width="{width}" height="{height}"'
