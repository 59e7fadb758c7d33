"""Learning curves (the paper's Fig. 6) and layer responses (Fig. 7): sections, figures and the CSV for DVC."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline.atomic import replacing
from pipeline.report import markdown as md
from pipeline.report.curve import TRAIN, VAL, Curve
from pipeline.report.inputs import Layers, ReportInputs
from pipeline.report.theme import Draw, Theme, new_figure, panels
from pipeline.report.traits import Kind, kind_of, origin

KINDS: tuple[Kind, ...] = ("plain", "residual", "others")  # a panel each
TRAIN_POINTS = 120  # windows that a longer training curve is averaged over
DASHED = (0, (4, 2))
APART = 8  # times the median; larger responses need a logarithmic axis


class Lines(NamedTuple):
    """What a figure of learning curves shows: two metrics, which are fractions."""

    bold: str
    dashed: str
    title: str  # of the dashed lines
    axis: str  # its title


ERRORS = Lines(VAL, TRAIN, "train", "top-1 error (%)")


def curves(inputs: ReportInputs) -> list[md.Block]:
    best = featured(inputs.curves)
    if not best:
        return [md.paragraph("No learning curves: no run has recorded train or validation errors.")]
    caption = "Top-1 error against steps, drawn like the paper's Fig. 6: training error dashed (of the augmented images, as the net learns from them), validation error bold (the paper: test), a colour for each depth."
    if others := sum(bool(curve.series(VAL)) for curve in inputs.curves if curve not in best):
        caption += f" Bold is the best run of each net; {md.plural(others, 'other run')} as thin validation curves."
    if any(len(curve.series(TRAIN)) > TRAIN_POINTS for curve in best):
        caption += f" The training error is averaged over at most {TRAIN_POINTS} windows a curve."
    kinds = {kind_of(curve.net) for curve in best}
    if absent := [kind for kind in ("plain", "residual") if kind not in kinds]:
        caption += f" No {' or '.join(absent)} net was trained, so there is no such panel."
    if missing := [curve.net.name for curve in best if not curve.series(VAL)]:
        caption += f" Without validation curve: {', '.join(missing)}."
    if outside := off_plot(inputs.curves):
        ends = ", ".join(f"{curve.net.name} ({md.percent(curve.last_error)})" for curve in outside)
        caption += f" Above the plot at the end: {ends}."
    ends = ", ".join(f"{curve.net.name} ends at {md.percent(curve.last_error)}" for curve in best)
    figure = learning_curves(inputs.curves, best, inputs.depths, ERRORS, top_of_axis(best))
    return [md.Figure("curves", caption, f"Learning curves: {ends}", figure)]


def layers(inputs: ReportInputs) -> list[md.Block]:
    """Fig. 7; a net that was trained several times is shown once."""
    nets = one_of_each(inputs.layers)
    if not nets:
        return [md.paragraph("No layer responses were measured.")]
    means = ", ".join(f"{each.net.name} {sum(each.std) / len(each.std):.2f}" for each in nets)
    ranges = ", ".join(f"{each.net.name} {min(each.gradient):.2g} to {max(each.gradient):.2g}" for each in nets)
    return [
        md.paragraph(f"Mean over the layers: {means}."),
        md.Figure(
            "responses",
            "Standard deviation of each 3x3 layer's response after batch norm, before ReLU and addition, on validation "
            "images, drawn like the paper's Fig. 7: in the layers' order, and sorted. Dashed: nets without shortcuts.",
            f"Layer responses; mean over the layers: {means}",
            layer_figure(nets, inputs.depths, "std", "standard deviation"),
        ),
        md.Figure(
            "gradients",
            'Norm of the gradient of one image\'s loss at the same responses. The paper verified "healthy" norms in plain nets '
            "(Sec. 4.1): they neither vanish nor explode.",
            f"Gradients: {ranges}",
            layer_figure(nets, inputs.depths, "gradient", "norm of the gradient"),
        ),
    ]


def write_curves_csv(curves: Sequence[Curve], path: str | Path) -> None:
    """Validation error of each net's best run, one row a step."""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["net", "run", "step", "validation error"])  # dvc.yaml and .dvc/plots/nets.json use these names
        for curve in featured(curves):
            for step, value in dict(curve.series(VAL)).items():
                rows.writerow([curve.net.name, curve.net.key, int(step), float(value)])


def featured(curves: Sequence[Curve]) -> list[Curve]:
    """For each net the curve with the lowest last error, see `first_of_each`.

    A run on all images has a training error only; it counts where its net has no other run, and so does a run on part
    of the images or from given weights.
    """

    def rank(curve: Curve) -> tuple[bool, bool, float]:
        return bool(origin(curve.net)), not curve.series(VAL), _end(curve)

    return first_of_each((curve for curve in curves if curve.last_error is not None), rank)


def first_of_each(curves: Iterable[Curve], rank: Callable[[Curve], Any]) -> list[Curve]:
    """Each net's first curve by `rank`: plain nets first, then residual nets, then others, by depth."""
    first: dict[tuple[int, int, str], Curve] = {}
    for curve in sorted(curves, key=rank):
        first.setdefault((KINDS.index(kind_of(curve.net)), curve.net.model.depth, curve.net.name), curve)
    return [first[slot] for slot in sorted(first)]


def _end(curve: Curve) -> float:
    return math.inf if curve.last_error is None else curve.last_error


def windows(values: Sequence[tuple[float, float]], most: int = TRAIN_POINTS) -> list[tuple[float, float]]:
    """Means over consecutive windows, at most `most` of them; the values themselves where there are fewer."""
    size = max(1, math.ceil(len(values) / most))
    cuts = [values[i : i + size] for i in range(0, len(values), size)]
    return [(sum(s for s, _ in cut) / len(cut), sum(v for _, v in cut) / len(cut)) for cut in cuts]


def top_of_axis(curves: Sequence[Curve]) -> float:
    """Upper end of the error axis, a fraction: the plot shows the descent after the first sixth of the training.

    A net that ends far above the others (the paper's plain-110) leaves the plot instead of flattening all curves. A net
    that ends inside it is visible over its last three quarters.
    """
    ends = sorted(_end(curve) for curve in curves)
    far = max(0.2, 4 * ends[len(ends) // 2])
    late = [_highest(curve, 1 / 4) for curve in curves if _end(curve) <= far]
    return min(1.0, 1.08 * max(_highest(curve, 1 / 6) for curve in curves), max(far, *late)) or 0.01


def _highest(curve: Curve, part: float) -> float:
    """Highest error of a curve after this share of the training."""
    values = curve.series(VAL) or curve.series(TRAIN)
    return max(value for step, value in values if step >= part * values[-1][0])


def off_plot(curves: Sequence[Curve]) -> list[Curve]:
    """Featured curves that end above the plot."""
    best = featured(curves)
    return [curve for curve in best if _end(curve) > top_of_axis(best)]


def learning_curves(
    curves: Sequence[Curve], best: Sequence[Curve], depths: Sequence[int], lines: Lines, top: float | None = None
) -> Draw:
    """Fig. 6: `lines` of the best curves against steps, others thin; panels for plain nets, residual nets and others.

    Args:
        top: of the axis, a fraction; None for where the highest line ends.
    """
    kinds = [kind for kind in KINDS if any(kind_of(curve.net) == kind for curve in best)]

    def draw(theme: Theme) -> Any:
        figure = new_figure(theme, 8 if len(kinds) == 1 else 10, 4.6, 3.4 * len(kinds))
        axes_of = panels(theme, figure, len(kinds), sharey=True)
        last = max(step for curve in best for metric in (lines.bold, lines.dashed) for step, _ in curve.series(metric))
        for axes, kind in zip(axes_of, kinds, strict=True):
            for curve in (c for c in curves if kind_of(c.net) == kind and c not in best):
                colour = theme.colour(curve.net.model.depth, depths)
                _line(axes, curve.series(lines.bold), color=colour, linewidth=0.7, alpha=0.45)
            for curve in (c for c in best if kind_of(c.net) == kind):
                colour = theme.colour(curve.net.model.depth, depths)
                dashed = windows(curve.series(lines.dashed))
                _line(axes, dashed, color=colour, linewidth=1.1, linestyle=DASHED, alpha=0.9)
                label = curve.net.model.net.name + (" ↑" if top and _end(curve) > top else "")
                _line(axes, curve.series(lines.bold), color=colour, linewidth=2.2, label=label)
            axes.plot([], [], color=theme.muted, linewidth=1.1, linestyle=DASHED, label=lines.title)
            axes.set_title(kind, loc="left")
            axes.set_xlim(0, 1.02 * last)  # so that a point at the end is whole
            axes.xaxis.set_major_formatter(lambda step, _: md.count(step))
            axes.set_xlabel("steps")
            axes.legend(loc="best")
        axes_of[0].set_ylim(0, top and 100 * top)  # of all: they share it
        for axes in axes_of if theme.narrow else axes_of[:1]:
            axes.set_ylabel(lines.axis)
        return figure

    return draw


def _line(axes: Any, values: Sequence[tuple[float, float]], **how: Any) -> None:
    marker = "o" if len(values) == 1 else ""  # of a run that was validated once
    axes.plot([step for step, _ in values], [100 * value for _, value in values], marker=marker, **how)


def one_of_each(layers: Sequence[Layers]) -> list[Layers]:
    """One run of each net, in the figures' order; trainings like the paper's come before others."""
    best: dict[str, Layers] = {}
    for each in sorted(layers, key=lambda each: (bool(origin(each.net)), each.net.seed or 0)):
        best.setdefault(each.net.name, each)
    return sorted(best.values(), key=lambda each: (kind_of(each.net), each.net.model.depth))


def layer_figure(layers: Sequence[Layers], depths: Sequence[int], what: Literal["std", "gradient"], label: str) -> Draw:
    """A line for each net, by layer; deviations also sorted in falling order.

    Gradients have a logarithmic axis, and deviations too where one net's would flatten the others'.
    """
    orders = ("layer", "layer, by size") if what == "std" else ("layer",)
    everything = [value for each in layers for value in getattr(each, what)]

    def draw(theme: Theme) -> Any:
        figure = new_figure(theme, 9, 0.6 + 2.8 * len(orders))
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
        figure.legend(*rows[0].get_legend_handles_labels(), loc="outside upper left", ncols=2 if theme.narrow else 6)
        return figure

    return draw
