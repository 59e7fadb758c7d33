"""Names beside points that lie anywhere in a figure, each where it covers nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

# Directions in the order of preference: right, left, above, below, then between them.
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_DISTANCES = (5, 12, 24, 40, 60)  # of a name from its point's edge, in points of 1/72 inch
_CLEAR = 4  # points kept free around a name


class Label(NamedTuple):
    name: str
    places: Sequence[tuple[float, float, float]]  # points that the name may stand at: x, y, radius in 1/72 inch
    colour: Any


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: _Box) -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    def within(self, other: _Box) -> bool:
        return self.overlap(other) == self.overlap(self)


def label_points(axes: Any, labels: Sequence[Label], bars: Sequence[tuple[float, float, float]]) -> list[Any]:
    """Writes each name as near to one of its points as leaves the others free; a thin line leads to one further away.

    The axes' limits must be final. Where there is no free place, a name takes the one that covers least.

    Args:
        bars: x, low and high of what else the names must keep off.
    Returns:
        matplotlib's texts, in the order of `labels`.
    """
    axes.figure.draw_without_rendering()  # the layout decides where a point lies
    unit = axes.figure.dpi / 72
    taken = [_around(*_seen(axes, x, y), radius * unit) for label in labels for x, y, radius in label.places]
    taken += [_Box(*_seen(axes, x, low), *_seen(axes, x, high)) for x, low, high in bars]
    taken = [_grown(box, _CLEAR * unit) for box in taken]
    frame = _Box(*axes.get_window_extent().extents)
    texts = []
    for label in labels:
        text = axes.text(0, 0, label.name, color=label.colour, fontsize=9, fontweight="bold", ha="center", va="center")
        size = text.get_window_extent()
        best = min(
            _candidates(axes, label, size.width, size.height, unit),
            key=lambda found: (not found[0].within(frame), sum(found[0].overlap(box) for box in taken)),
        )
        box, (x, y, radius), distance = best
        taken.append(_grown(box, _CLEAR * unit))
        middle = ((box.left + box.right) / 2, (box.bottom + box.top) / 2)
        text.set_position(axes.transData.inverted().transform(middle))
        if distance > _DISTANCES[0]:
            _lead(axes, label, middle, text, (x, y), radius)
        texts.append(text)
    return texts


def _candidates(
    axes: Any, label: Label, width: float, height: float, unit: float
) -> Iterator[tuple[_Box, tuple[float, float, float], float]]:
    """Where the name may stand, of which point and how far from it; the nearest first, for `min` keeps the first."""
    for distance, place, (right, up) in itertools.product(_DISTANCES, label.places, _DIRECTIONS):
        x, y = _seen(axes, *place[:2])
        away = (place[2] + distance) * unit * (0.7 if right and up else 1)
        x, y = x + right * (away + width / 2), y + up * (away + height / 2)
        yield _Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2), place, distance


def _lead(axes: Any, label: Label, middle: Any, text: Any, point: tuple[float, float], radius: float) -> None:
    axes.annotate(
        "",
        xy=point,
        xytext=axes.transData.inverted().transform(middle),
        arrowprops={
            "arrowstyle": "-",
            "color": label.colour,
            "linewidth": 0.8,
            "patchA": text,
            "shrinkA": 1,
            "shrinkB": radius,
        },
    )


def _seen(axes: Any, x: float, y: float) -> tuple[float, float]:
    """Where a point lies in pixels."""
    across, up = axes.transData.transform((x, y))
    return float(across), float(up)


def _around(x: float, y: float, radius: float) -> _Box:
    return _Box(x - radius, y - radius, x + radius, y + radius)


def _grown(box: _Box, by: float) -> _Box:
    return _Box(box.left - by, box.bottom - by, box.right + by, box.top + by)
