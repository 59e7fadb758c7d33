"""Learning curves: the paper's Fig. 6, and its validation curves as a table for `dvc plots`."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import replacing
from pipeline.report.inputs import Curve, Kind, full_name, kind_of
from pipeline.report.theme import Draw, Theme, label_ends, new_figure

TRAIN, VAL = "train/err1", "val/err1"
KINDS: tuple[Kind, ...] = ("plain", "residual", "others")  # a panel each
TEN_THOUSANDS_FROM = 20_000  # steps; from here on the axis counts in 10^4 as the paper's do
TRAIN_POINTS = 120  # a longer train curve is averaged over windows down to this many points


def write_curves_csv(curves: Sequence[Curve], path: str | Path) -> None:
    """Validation error of the best run of each net, a row a step; so a net has one value a step."""
    with replacing(path) as part, part.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["net", "run", "step", "validation error"])  # dvc.yaml and .dvc/plots/nets.json name them
        for curve in featured(curves):
            for step, value in dict(series(curve, VAL)).items():
                rows.writerow([full_name(curve), curve["name"], int(step), float(value)])


def featured(curves: Sequence[Curve]) -> list[Curve]:
    """The curve of each net that ends at the lowest error: plain ones, residual ones, others, each by depth.

    A train error is no match for a validation error: a run on all images counts where its net has no other, and so does
    one on a part of the images or from given weights.
    """

    def rank(curve: Curve) -> tuple[bool, bool, float]:
        return not curve.get("plainly", True), not series(curve, VAL), _end(curve)

    best: dict[tuple[int, int, str], Curve] = {}
    for curve in curves:
        slot = (KINDS.index(kind_of(curve)), curve["depth"], full_name(curve))
        if last_error(curve) is not None and (slot not in best or rank(curve) < rank(best[slot])):
            best[slot] = curve
    return [best[slot] for slot in sorted(best)]


def last_error(curve: Curve) -> float | None:
    """The last validation error of a curve, or where it has none its last train error."""
    for metric in (VAL, TRAIN):
        values = series(curve, metric)
        if values:
            return values[-1][1]
    return None


def _end(curve: Curve) -> float:
    return math.inf if (error := last_error(curve)) is None else error


def series(curve: Curve, metric: str) -> list[tuple[float, float]]:
    """Finite points in order of step: a diverged run's NaN leaves a shorter line, not a broken figure."""
    points = ((step, value) for step, value in curve["points"].get(metric, []) if value is not None)
    return sorted((step, value) for step, value in points if math.isfinite(value))


def windows(values: Sequence[tuple[float, float]], most: int = TRAIN_POINTS) -> list[tuple[float, float]]:
    """Means over consecutive windows, at most `most` of them; the values themselves where there are fewer."""
    size = max(1, math.ceil(len(values) / most))
    cuts = [values[i : i + size] for i in range(0, len(values), size)]
    return [(sum(s for s, _ in cut) / len(cut), sum(v for _, v in cut) / len(cut)) for cut in cuts]


def top_of_axis(curves: Sequence[Curve]) -> float:
    """Fraction that ends the error axis: shows the descent from a sixth of the training on, not the first steps.

    A net that ends far above the others (the paper's plain-110) leaves the plot rather than flatten all curves; of one that
    ends on it, three quarters of the training are seen.
    """
    ends = sorted(_end(curve) for curve in curves)
    far = max(0.2, 4 * ends[len(ends) // 2])
    late = [_highest(curve, 1 / 4) for curve in curves if _end(curve) <= far]
    return min(1.0, 1.08 * max(_highest(curve, 1 / 6) for curve in curves), max(far, *late)) or 0.01


def _highest(curve: Curve, part: float) -> float:
    """Error of a curve, past that part of the training."""
    values = series(curve, VAL) or series(curve, TRAIN)
    return max(value for step, value in values if step >= part * values[-1][0])


def off_plot(curves: Sequence[Curve]) -> list[Curve]:
    """Featured curves that end above the axis."""
    shown = featured(curves)
    return [curve for curve in shown if _end(curve) > top_of_axis(shown)]


def learning_curves(curves: Sequence[Curve], depths: Sequence[int]) -> Draw:
    """Fig. 6: error against iterations; dashed train, bold validation; plain left, residual right, others beside them."""
    shown = featured(curves)
    kinds = [kind for kind in KINDS if any(kind_of(curve) == kind for curve in shown)]

    def draw(theme: Theme) -> Any:
        figure = new_figure({1: 8, 2: 10}.get(len(kinds), 13), 4.6)
        panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        last = max(step for curve in shown for metric in (TRAIN, VAL) for step, _ in series(curve, metric))
        unit = 1e4 if last >= TEN_THOUSANDS_FROM else 1.0
        for axes, kind in zip(panels, kinds, strict=True):
            for curve in curves:
                if kind_of(curve) == kind and curve not in shown:
                    _line(axes, series(curve, VAL), unit, theme.colour(curve["depth"], depths), width=0.7, alpha=0.45)
            labels = []
            for curve in (c for c in shown if kind_of(c) == kind):
                colour = theme.colour(curve["depth"], depths)
                _line(axes, windows(series(curve, TRAIN)), unit, colour, width=1.1, style=(0, (4, 2)), alpha=0.9)
                _line(axes, series(curve, VAL), unit, colour, width=2.2)
                labels.append((100 * _end(curve), full_name(curve), colour))
            axes.set_title(kind, loc="left")
            axes.set_xlim(0, last / unit)
            axes.set_ylim(0, 100 * top_of_axis(shown))
            axes.set_xlabel("iterations (10⁴)" if unit > 1 else "iterations")
            label_ends(axes, labels)
        panels[0].set_ylabel("top-1 error (%)")
        _line_key(panels[-1], theme)
        return figure

    return draw


def _line(axes: Any, values: Sequence[tuple[float, float]], unit: float, colour: Any, width: float, **how: Any) -> None:
    style, alpha = how.get("style", "-"), how.get("alpha", 1.0)
    xs, ys = [step / unit for step, _ in values], [100 * value for _, value in values]
    axes.plot(xs, ys, linestyle=style, color=colour, linewidth=width, alpha=alpha)


def _line_key(axes: Any, theme: Theme) -> None:
    from matplotlib.lines import Line2D

    train = Line2D([], [], color=theme.muted, linewidth=1.1, linestyle=(0, (4, 2)), label="train")
    axes.legend(
        handles=[train, Line2D([], [], color=theme.muted, linewidth=2.2, label="validation")], loc="upper right"
    )
