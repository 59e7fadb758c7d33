"""Figures along a training and along a net's layers: learning curves (the paper's Fig. 6), layer responses (Fig. 7)."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pipeline.atomic import replacing
from pipeline.report.inputs import TRAIN, VAL, Curve, Kind, Layers, kind_of, origin
from pipeline.report.theme import Draw, Theme, new_figure

KINDS: tuple[Kind, ...] = ("plain", "residual", "others")  # a panel each
TEN_THOUSANDS_FROM = 20_000  # steps; from here on the axis counts in 10^4 as the paper's do
TRAIN_POINTS = 120  # a longer train curve is averaged over windows down to this many points
DASHED = (0, (4, 2))
APART = 8  # times the median; larger responses are seen beside the others on a logarithmic axis alone


def write_curves_csv(curves: Sequence[Curve], path: str | Path) -> None:
    """Validation error of the best run of each net, a row a step; so a net has one value a step."""
    with replacing(path) as part, part.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["net", "run", "step", "validation error"])  # dvc.yaml and .dvc/plots/nets.json name them
        for curve in featured(curves):
            for step, value in dict(curve.series(VAL)).items():
                rows.writerow([curve.net.name, curve.net.key, int(step), float(value)])


def featured(curves: Sequence[Curve]) -> list[Curve]:
    """The curve of each net that ends at the lowest error: plain ones, residual ones, others, each by depth.

    A train error is no match for a validation error: a run on all images counts where its net has no other, and so does
    one on a part of the images or from given weights.
    """

    def rank(curve: Curve) -> tuple[bool, bool, float]:
        return bool(origin(curve.net)), not curve.series(VAL), _end(curve)

    best: dict[tuple[int, int, str], Curve] = {}
    for curve in curves:
        slot = (KINDS.index(kind_of(curve.net)), curve.net.model.depth, curve.net.name)
        if curve.last_error is not None and (slot not in best or rank(curve) < rank(best[slot])):
            best[slot] = curve
    return [best[slot] for slot in sorted(best)]


def _end(curve: Curve) -> float:
    return math.inf if curve.last_error is None else curve.last_error


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
    values = curve.series(VAL) or curve.series(TRAIN)
    return max(value for step, value in values if step >= part * values[-1][0])


def off_plot(curves: Sequence[Curve]) -> list[Curve]:
    """Featured curves that end above the axis."""
    best = featured(curves)
    return [curve for curve in best if _end(curve) > top_of_axis(best)]


def learning_curves(curves: Sequence[Curve], depths: Sequence[int]) -> Draw:
    """Fig. 6: error against steps; dashed train, bold validation; plain left, residual right, others beside them."""
    best = featured(curves)
    kinds = [kind for kind in KINDS if any(kind_of(curve.net) == kind for curve in best)]
    top = top_of_axis(best)

    def draw(theme: Theme) -> Any:
        figure = new_figure({1: 8, 2: 10}.get(len(kinds), 13), 4.6)
        panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        last = max(step for curve in best for metric in (TRAIN, VAL) for step, _ in curve.series(metric))
        unit = 1e4 if last >= TEN_THOUSANDS_FROM else 1.0
        for axes, kind in zip(panels, kinds, strict=True):
            for curve in (c for c in curves if kind_of(c.net) == kind and c not in best):
                colour = theme.colour(curve.net.model.depth, depths)
                _line(axes, curve.series(VAL), unit, color=colour, linewidth=0.7, alpha=0.45)
            for curve in (c for c in best if kind_of(c.net) == kind):
                colour = theme.colour(curve.net.model.depth, depths)
                train = windows(curve.series(TRAIN))
                _line(axes, train, unit, color=colour, linewidth=1.1, linestyle=DASHED, alpha=0.9)
                label = f"{curve.net.name} ↑" if _end(curve) > top else curve.net.name
                _line(axes, curve.series(VAL), unit, color=colour, linewidth=2.2, label=label)
            axes.plot([], [], color=theme.muted, linewidth=1.1, linestyle=DASHED, label="train")
            axes.set_title(kind, loc="left")
            axes.set_xlim(0, last / unit)
            axes.set_ylim(0, 100 * top)
            axes.set_xlabel("steps (10⁴)" if unit > 1 else "steps")
            axes.legend(loc="best")
        panels[0].set_ylabel("top-1 error (%)")
        return figure

    return draw


def _line(axes: Any, values: Sequence[tuple[float, float]], unit: float, **how: Any) -> None:
    axes.plot([step / unit for step, _ in values], [100 * value for _, value in values], **how)


def one_of_each(layers: Sequence[Layers]) -> list[Layers]:
    """A net's first run alone, the paper's kind of training before others, in the figures' order."""
    best: dict[str, Layers] = {}
    for each in sorted(layers, key=lambda each: (bool(origin(each.net)), each.net.seed or 0)):
        best.setdefault(each.net.name, each)
    return sorted(best.values(), key=lambda each: (kind_of(each.net), each.net.model.depth))


def layer_figure(layers: Sequence[Layers], depths: Sequence[int], what: Literal["std", "gradient"], label: str) -> Draw:
    """A line a net, by layer; deviations also sorted from the largest down.

    Gradients are on a logarithmic axis, deviations where one net's would flatten the others'.
    """
    orders = ("layer", "layer, by size") if what == "std" else ("layer",)
    everything = [value for each in layers for value in getattr(each, what)]

    def draw(theme: Theme) -> Any:
        figure = new_figure(9, 0.6 + 2.8 * len(orders))
        rows = figure.subplots(len(orders), 1, sharey=True, squeeze=False)[:, 0]
        for axes, order in zip(rows, orders, strict=True):
            for each in layers:
                values = getattr(each, what)
                values = values if order == "layer" else sorted(values, reverse=True)
                colour = theme.colour(each.net.model.depth, depths)
                style = "-" if each.net.model.residual else DASHED
                at = range(1, len(values) + 1)
                axes.plot(at, values, color=colour, linestyle=style, linewidth=1.6, label=each.net.name)
            axes.set_xlabel(order)
            axes.set_ylabel(label)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.margins(x=0.01)
            if what == "gradient" or max(everything) > APART * statistics.median(everything):
                axes.set_yscale("log")
            else:
                axes.set_ylim(0, 1.05 * max(everything))
        figure.legend(*rows[0].get_legend_handles_labels(), loc="outside upper left", ncols=6)
        return figure

    return draw
