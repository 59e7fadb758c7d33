from __future__ import annotations

import pytest

from pipeline.report.document import (
    Code,
    Document,
    Fold,
    Listed,
    Paragraph,
    Section,
    Table,
    interval,
    percent,
    plural,
    points,
)
from pipeline.report.html import to_html
from pipeline.report.markdown import to_markdown


def test_numbers_are_written_as_a_reader_expects():
    assert percent(0.08754) == "8.75%"
    assert percent(None) == "–"
    assert interval((0.0, 0.1234)) == "0.00 to 12.34%"
    assert points(-0.0123) == "−1.23"
    assert points(0.0123) == "+1.23"
    assert points(-0.00001) == "0.00"


@pytest.mark.parametrize(
    ("n", "noun", "text"),
    [(1, "class", "1 class"), (10, "class", "10 classes"), (1200, "image", "1,200 images"), (2, "entry", "2 entries")],
)
def test_plurals(n, noun, text):
    assert plural(n, noun) == text


def write(*blocks):
    document = Document("T", "s", [Section("a", "A", blocks)])
    return to_html(document, {}), to_markdown(document)


def test_table_cells_keep_their_borders_whatever_is_in_them():
    html, markdown = write(Table(["a|b"], [["x\ny | z"], [Code("p | q")]], "l", strong=frozenset({0})))
    lines = markdown.splitlines()
    assert r"| a\|b |" in lines
    assert r"| **x y \| z** |" in lines
    assert r"| `p \| q` |" in lines
    assert '<tr class="strong"><td class="left">x\ny | z</td></tr>' in html


def test_a_listing_is_fenced_longer_than_what_it_holds():
    _, markdown = write(Listed("```\nx\n```"))
    assert "````\n```\nx\n```\n````" in markdown


def test_folds_hold_blocks():
    html, markdown = write(Fold("more <", [Paragraph("inside")]))
    assert "<details>\n<summary>more &lt;</summary>\n<p>inside</p>\n</details>" in html
    assert "<details>\n<summary>more \\<</summary>\n\ninside\n\n</details>" in markdown
