"""What a net's errors cost: test error against the multiply-adds of one image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.report.document import Block, Figure, Paragraph, Table, Text, count, percent, short
from pipeline.report.inputs import Kind, Net, ReportInputs, beginnings, full_name, kind_of
from pipeline.report.labels import Label, label_points
from pipeline.report.theme import Draw, Theme, new_figure
from pipeline.report.trained import at_length, trainings

LARGEST = 700  # area of the net with the most parameters, in square points of 1/72 inch
KINDS: tuple[Kind, ...] = ("residual", "plain", "others")
MARKERS = {"residual": "o", "plain": "s", "others": "D"}
_DISC = 4 / math.pi  # matplotlib's size is that of the square around a disc, whose area is so much less
# Half the width of a marker, as a share of its area's root.
_HALF_WIDTH = {"o": math.sqrt(_DISC) / 2, "s": 0.5, "D": math.sqrt(0.5)}
_ASIDE = 2.5  # points that plain nets are drawn to the right: a residual one of their depth costs as much (Sec. 3.3)


class Point(NamedTuple):
    """A training; errors are fractions."""

    name: str
    kind: Kind
    macs: int
    params: int
    error: float
    low: float
    high: float


def error_against_cost(inputs: ReportInputs) -> list[Block]:
    """The section's blocks; a sentence where there are not two nets to compare."""
    nets = [net for net in inputs.nets if not beginnings(net)]  # another start or fewer images make another error
    counted = [net for net in nets if "macs" in net]
    missing = sorted({full_name(net) for net in nets if "macs" not in net})
    left_out = f"Evaluation did not count the multiply-adds of {', '.join(missing)}." if missing else ""
    points = [_point(net) for net in counted]
    if len({point.name for point in points}) < 2:
        whose = f"Only {points[0].name}" if points else "No net"
        return [Paragraph(f"{whose} has its multiply-adds counted: there is no picture of error against cost.")]
    sizes = sorted(point.params for point in points)
    caption = (
        "Test error with its 95% interval against multiply-adds of one image, at the image size of the training; each "
        f"point is a training from random weights on the whole split, or a net made elsewhere, its area proportional to the net's parameters, from {short(sizes[0])} to {short(sizes[-1])}."
    )
    told = ", ".join(f"{p.name} {percent(p.error)} at {short(p.macs)}" for p in sorted(points, key=lambda p: p.macs))
    figure = Figure("cost", caption, f"Test error against multiply-adds: {told}", cost_figure(points))
    return [figure, *_wasted(inputs, counted), *([Paragraph(left_out)] if left_out else [])]


def _point(net: Net) -> Point:
    low, high = net["ci95"]
    return Point(full_name(net), kind_of(net), net["macs"], net["params"], net["test_err1"], low, high)


def _wasted(inputs: ReportInputs, counted: Sequence[Net]) -> list[Block]:
    """Nets that cost more and err more than another, which depth alone brings a plain net to (Fig. 1, Sec. 4.1)."""
    macs = {net["model"]: net["macs"] for net in counted}
    found = trainings(inputs, "test")
    rows: list[list[Text]] = []
    for steps in sorted(
        {net["steps"] for net in counted if net["steps"]}
    ):  # of a net made elsewhere the length is unknown
        nets = at_length(found, steps, inputs.num_test, paper=False)
        known = {model: net for model, net in nets.items() if model in macs}
        for model, net in sorted(known.items(), key=lambda item: macs[item[0]]):
            better = [other for other in known if macs[other] < macs[model] and known[other].value < net.value]
            if better:
                best = min(better, key=lambda other: known[other].value)
                pair = [[known[m].name, short(macs[m]), percent(known[m].value)] for m in (model, best)]
                rows.append([*pair[0], *pair[1], count(steps)])
    if not rows:
        return [Paragraph("Of the nets trained for as long as each other none costs more and errs more than another.")]
    caption = (
        "Nets that cost more and err more than another trained for as long, each beside the best of these; top-1 test "
        "error, the mean where a net was trained several times, judged without regard to intervals."
    )
    header = ["net", "multiply-adds", "error", "net that costs and errs less", "multiply-adds", "error", "iterations"]
    return [Table(header, rows, "lrrlrrr", caption)]


def cost_figure(points: Sequence[Point]) -> Draw:
    """A mark a training; the runs of a net share its name."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(8, 4.8)
        axes = figure.add_subplot()
        _scale(axes, points)
        most = max(point.params for point in points)
        colours = dict(zip(KINDS, theme.palette, strict=False))
        for kind in KINDS:
            shown = [point for point in points if point.kind == kind]
            if shown:
                _marks(axes, shown, most, MARKERS[kind], colours[kind])
                axes.plot([], [], MARKERS[kind], color=colours[kind], markersize=7.5, label=kind)
        axes.set_xlabel("multiply-adds of one image")
        axes.set_ylabel("top-1 test error (%)")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)
        bars = [(point.macs, 100 * point.low, 100 * point.high) for point in points]
        label_points(axes, _labels(points, most, colours), bars)
        return figure

    return draw


def _marks(axes: Any, points: Sequence[Point], most: int, marker: str, colour: str) -> None:
    from matplotlib.transforms import offset_copy

    aside = offset_copy(axes.transData, axes.figure, x=_ASIDE if marker == MARKERS["plain"] else 0, units="points")
    for point in points:
        interval = [100 * point.low, 100 * point.high]
        axes.plot([point.macs] * 2, interval, color=colour, linewidth=1.2, zorder=2, transform=aside)
    disc = _DISC if marker == MARKERS["residual"] else 1.0
    axes.scatter(
        [point.macs for point in points],
        [100 * point.error for point in points],
        s=[disc * LARGEST * point.params / most for point in points],
        marker=marker,
        color=[(colour, 0.45)],
        edgecolors=colour,
        linewidths=1.2,
        zorder=3,
        transform=aside,
    )


def _labels(points: Sequence[Point], most: int, colours: dict[Kind, Any]) -> list[Label]:
    by_name: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda point: (point.macs, point.error)):
        by_name.setdefault(point.name, []).append(point)
    labels = []
    for name, runs in by_name.items():
        half = _HALF_WIDTH[MARKERS[runs[0].kind]] * math.sqrt(LARGEST * runs[0].params / most)
        half += _ASIDE if runs[0].kind == "plain" else 0
        ends = (min(run.low for run in runs), max(run.high for run in runs))
        places = [(run.macs, 100 * run.error, half) for run in runs]
        places += [(runs[0].macs, 100 * end, 0.0) for end in ends]  # beside a bar's end is near enough
        labels.append(Label(name, places, colours[runs[0].kind]))
    return labels


def _scale(axes: Any, points: Sequence[Point]) -> None:
    """A logarithmic axis of multiply-adds, wide enough for two ticks however near each other the nets are.

    Both ranges are set by hand: matplotlib would take them from marks whose place is partly in points.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = min(point.macs for point in points), max(point.macs for point in points)
    room = max(2.0, (high / low) ** 0.12)
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    bottom, top = 100 * min(point.low for point in points), 100 * max(point.high for point in points)
    axes.set_ylim(bottom - 0.12 * (top - bottom), top + 0.12 * (top - bottom))
