"""Names of the user's own in figures: whatever they hold, they are drawn as they are, or escaped where no font has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

FONT = "DejaVu Sans"  # which matplotlib brings


def lettering(names: Sequence[str], most: int) -> tuple[list[str], dict[str, Any]]:
    """Labels for axes, and the options of matplotlib's texts that draw them.

    A label has at most about `most` characters; names that would look alike are numbered, from 0 as classes are. An
    installed font serves for letters that matplotlib's own lacks, if one font has them all; otherwise they are escaped.
    """
    needed = frozenset(char for name in names for char in name[:most] if not char.isspace())
    family = [FONT, *_font_for(needed)]
    shown = set().union(*map(_characters, family))
    labels = [
        shorten("".join(c if c in shown or c == " " else _escaped(c) for c in name[: most + 1]), most) for name in names
    ]
    twice = {label for label, number in Counter(labels).items() if number > 1}
    numbered = [f"{at}: {label}" if label in twice else label for at, label in enumerate(labels)]
    # A $ is a dollar, not the start of a formula.
    return numbered, {"fontfamily": family, "parse_math": False}


def shorten(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _escaped(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _font_for(needed: frozenset[str]) -> list[str]:
    """The first installed font, by name, with all characters that FONT lacks; none if there is no such font, or no need."""
    missing = needed - _characters(FONT)
    fonts = _installed() if missing else []
    return next(([font] for font in fonts if missing <= _characters(font)), [])


def _installed() -> list[str]:
    from matplotlib.font_manager import fontManager

    # The last resort has a box for every character.
    return sorted({font.name for font in fontManager.ttflist if "Last Resort" not in font.name})


@cache
def _characters(font: str) -> frozenset[str]:
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(map(chr, FT2Font(findfont(font)).get_charmap()))
