"""Markdown and the HTML rendered from it."""

from __future__ import annotations

import re

from pipeline.report.markdown import (
    Document,
    Section,
    code,
    fold,
    interval,
    listing,
    paragraph,
    percent,
    plural,
    points,
    table,
)
from pipeline.report.rendering import to_html


def as_page(*blocks) -> tuple[str, str]:
    document = Document("T", "s", [Section("a", "A", blocks)])
    return to_html(document, {}), str(document)


def test_numbers_are_written_as_a_reader_expects():
    assert (percent(0.08754), percent(None)) == ("8.75%", "–")
    assert interval((0.0, 0.1234)) == "0.00 to 12.34%"
    assert [points(value) for value in (-0.0123, 0.0123, -0.00001)] == ["−1.23", "+1.23", "0.00"]
    nouns = ((1, "class"), (10, "class"), (1200, "image"), (2, "entry"))
    assert [plural(*noun) for noun in nouns] == ["1 class", "10 classes", "1,200 images", "2 entries"]


def test_table_cells_keep_their_borders_whatever_is_in_them():
    html, markdown = as_page(table(["a|b"], [["x\ny | z"], [code("p | q")]], "l", bold={0}))
    assert {r"| a\|b |", r"| **x y \| z** |", r"| `p \| q` |"} <= set(markdown.splitlines())
    assert "><strong>x y | z</strong></td>" in html and "><code>p | q</code></td>" in html


def test_cells_know_their_column_and_wide_tables_long_cells_and_slim_tables_apart():
    header, row = ["net", 'a "b"', "c", "d"], ["x", "y", "z" * 41, ""]
    html, _ = as_page(table(header, [row], "llrl"), table(header[:2], [row[:2]], "ll"))
    assert html.count('<table class="wide">') == html.count('<table class="slim">') == 1
    assert html.count('data-label="a &quot;b&quot;">y</td>') == 2 and re.search(r'class="long"[^>]*>z{41}</td>', html)


def test_listings_and_folds_keep_what_they_hold():
    html, markdown = as_page(listing("```\nx\n```"), fold("more <", paragraph("in*side*")))
    assert "````\n```\nx\n```\n````" in markdown and "<pre><code>```\nx\n```\n</code></pre>" in html
    assert "<summary>more \\<</summary>" in markdown and re.search(
        r"<details>.*<p>in\*side\*</p>\s*</details>", html, re.S
    )
