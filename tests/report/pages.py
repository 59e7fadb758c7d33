"""The report's figures and text as a test reads them."""

from __future__ import annotations

from pipeline.report.checks import assess
from pipeline.report.markdown import Figure
from pipeline.report.page import compose
from pipeline.report.theme import LIGHT, render


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def figures(blocks) -> list[Figure]:
    return [block for block in blocks if isinstance(block, Figure)]


def texts(blocks) -> str:
    return " ".join(block for block in blocks if isinstance(block, str))


def is_picture(draw, theme=LIGHT) -> bool:
    return render(draw, theme).startswith(b"\x89PNG")


def written(inputs) -> str:
    return str(compose(inputs, assess(inputs)))
