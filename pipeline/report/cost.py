"""Test error against cost: against the multiply-adds of one image, and against the number of training images."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from pipeline.evaluation.intervals import newcombe
from pipeline.record import Net
from pipeline.report import markdown as md
from pipeline.report.curves import DASHED
from pipeline.report.inputs import ReportInputs
from pipeline.report.theme import Draw, Theme, new_figure
from pipeline.report.trainings import at_length, trainings
from pipeline.report.traits import Kind, by_validation, kind_of, origin, recipe_of

LARGEST = 700  # area of the net with the most parameters, in square points of 1/72 inch
MARKERS: dict[Kind, str] = {"residual": "o", "plain": "s", "others": "D"}
STARTS = ("o", "D", "^", "v", "P", "X")  # marks of initial weights
ASIDE = 2.5  # points that plain nets shift to the right: the residual net of their depth costs the same (Sec. 3.3)


def error_against_cost(inputs: ReportInputs) -> list[md.Block]:
    """The section's blocks; a sentence if fewer than two nets can be compared."""
    nets = [net for net in inputs.nets if not origin(net)]
    counted = [net for net in nets if net.macs]
    missing = sorted({net.name for net in nets if not net.macs})
    if len({net.name for net in counted}) < 2:
        counts = f"Only {counted[0].name}" if counted else "No net"
        return [md.paragraph(f"{counts} has a count of multiply-adds, so there is no figure of error against cost.")]
    sizes = sorted(net.params for net in counted)
    caption = (
        "Test error with its 95% interval against multiply-adds of one image, at the training's image size. Each point is "
        "a training from random weights on the whole split, or a net made elsewhere; its area is proportional to the "
        f"net's parameters, from {md.short(sizes[0])} to {md.short(sizes[-1])}."
    )
    errors = ", ".join(f"{net.name} {md.percent(net.test_err1)} at {md.short(net.macs)}" for net in _by_cost(counted))
    blocks: list[md.Block] = [
        md.Figure("cost", caption, f"Test error against multiply-adds: {errors}", cost_figure(counted, inputs.depths))
    ]
    blocks += _wasted(inputs, counted)
    return (
        [*blocks, md.paragraph(f"Evaluation did not count the multiply-adds of {', '.join(missing)}.")]
        if missing
        else blocks
    )


def _by_cost(nets: Sequence[Net]) -> list[Net]:
    return sorted(nets, key=lambda net: (net.macs, net.name))


def _wasted(inputs: ReportInputs, counted: Sequence[Net]) -> list[md.Block]:
    """Nets that cost more and err more than another net, as deep plain nets do (Fig. 1, Sec. 4.1)."""
    macs = {net.name: net.macs for net in counted}
    runs = trainings(inputs, "test")
    rows: list[list[str]] = []
    for steps in sorted({net.steps for net in counted if net.steps}):  # 0: made elsewhere, of unknown length
        measured = at_length(runs, steps, inputs.num_test, paper=False)
        errors = {name: net.value for name, net in measured.items() if name in macs}
        for name in sorted(errors, key=macs.__getitem__):
            better = [other for other in errors if macs[other] < macs[name] and errors[other] < errors[name]]
            if better:
                best = min(better, key=errors.__getitem__)
                pair = [[n, md.short(macs[n]), md.percent(errors[n])] for n in (name, best)]
                rows.append([*pair[0], *pair[1], md.count(steps)])
    if not rows:
        return [md.paragraph("Among nets trained equally long, none costs more and errs more than another.")]
    caption = (
        "Nets that cost more and err more than another net trained equally long, each beside the best such net; top-1 test "
        "error, the mean of a net's runs, compared without intervals."
    )
    header = ["net", "multiply-adds", "error", "net that costs and errs less", "multiply-adds", "error", "steps"]
    return [md.table(header, rows, "lrrlrrr", caption)]


def cost_figure(nets: Sequence[Net], depths: Sequence[int]) -> Draw:
    """A mark for each training, in the colour of its depth; runs of a net share a legend entry."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(theme, 8, 4.8, 5.2)
        axes = figure.add_subplot()
        _scale(axes, nets)
        most = max(net.params for net in nets)
        names = dict.fromkeys(net.name for net in _by_cost(nets))
        for name in names:
            runs = [net for net in nets if net.name == name]
            _marks(axes, runs, most, theme.colour(runs[0].model.depth, depths))
            marker, colour = MARKERS[kind_of(runs[0])], theme.colour(runs[0].model.depth, depths)
            axes.plot([], [], marker, color=colour, markersize=7, label=name)
        axes.set_xlabel("multiply-adds of one image")
        axes.set_ylabel("top-1 test error (%)")
        figure.legend(**({"loc": "outside lower left", "ncols": 2} if theme.narrow else {"loc": "outside right upper"}))
        return figure

    return draw


def _marks(axes: Any, nets: Sequence[Net], most: int, colour: Any) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.transforms import offset_copy

    marker = MARKERS[kind_of(nets[0])]
    aside = offset_copy(axes.transData, axes.figure, x=ASIDE if marker == MARKERS["plain"] else 0, units="points")
    for net in nets:
        ends = [100 * bound for bound in net.ci95 or ()]
        axes.plot([net.macs] * len(ends), ends, color=colour, linewidth=1.2, zorder=2, transform=aside)
    # matplotlib takes the area of the square around a disc.
    disc = 4 / math.pi if marker == MARKERS["residual"] else 1.0
    axes.scatter(
        [net.macs for net in nets],
        [100 * (net.test_err1 or 0) for net in nets],
        s=[disc * LARGEST * net.params / most for net in nets],
        marker=marker,
        color=[to_rgba(colour, 0.45)],
        edgecolors=[colour],
        linewidths=1.2,
        zorder=3,
        transform=aside,
    )


def _scale(axes: Any, nets: Sequence[Net]) -> None:
    """A logarithmic axis of multiply-adds, wide enough for two ticks however near each other the nets are.

    Both ranges are set by hand: matplotlib would take them from marks whose place is partly in points.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = min(net.macs for net in nets), max(net.macs for net in nets)
    room = max(2.0, (high / low) ** 0.12)
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: md.short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    bounds = [100 * bound for net in nets for bound in net.ci95 or ()]
    room = 0.12 * (max(bounds) - min(bounds))
    axes.set_ylim(min(bounds) - room, max(bounds) + room)


class Pair(NamedTuple):
    """Two trainings of a net for equally many steps, each the one with the lowest validation error."""

    images: int
    scratch: Net
    started: Net

    @property
    def line(self) -> tuple[str, str, str]:
        return self.started.name, self.started.start, self.started.started


def transfer(inputs: ReportInputs) -> list[md.Block]:
    """Nets from given weights beside nets from random weights, trained equally long on equally many images."""
    pairs = paired(inputs)
    if not pairs:
        return [
            md.paragraph(
                "No net from given weights was evaluated beside one from random weights; ",
                md.code("sweep=transfer start.weights=... evaluation.runs=all"),
                " makes both.",
            )
        ]
    steps = ", ".join(md.count(steps) for steps in sorted({pair.started.steps for pair in pairs}))
    header = ["net", "started from", "images", "random weights", "transferred", "difference"]
    caption = (
        "Test error, with 95% intervals, of trainings of equal length on equally many images; of several runs, the one with "
        f"the lowest validation error. Differences in percentage points. Steps: {steps}."
    )
    blocks: list[md.Block] = [md.table(header, [_row(pair, inputs.num_test) for pair in pairs], "llrrrr", caption)]
    if len({pair.images for pair in pairs}) > 1:
        errors = ", ".join(f"{md.count(p.images)}: {md.percent(p.started.test_err1)}" for p in pairs)
        alt = f"Test error of transferred nets by training images, {errors}"
        caption = "Test error by the number of training images, with 95% intervals."
        blocks.append(md.Figure("transfer", caption, alt, transfer_figure(pairs, inputs.depths)))
    return blocks


def _row(pair: Pair, n: int) -> list[str]:
    images, scratch, started = pair
    ours, theirs = started.test_err1 or 0.0, scratch.test_err1 or 0.0
    gain = newcombe(round(ours * n), n, round(theirs * n), n)
    errors = [f"{md.percent(net.test_err1)} ({md.interval(net.ci95)})" for net in (scratch, started)]
    return [
        started.name,
        started.start,
        md.count(images),
        *errors,
        f"{md.points(ours - theirs)} ({md.interval(gain[1:])})",
    ]


def paired(inputs: ReportInputs) -> list[Pair]:
    """Every net from given weights with its counterpart, by initial weights, then by images."""
    best: dict[tuple[Hashable, ...], Net] = {}
    for net in sorted(inputs.nets, key=by_validation):
        best.setdefault((*_alike(net), net.start, net.started), net)
    whole = inputs.data["counts"].get("train", 0)
    pairs = [
        Pair(net.num_train or whole, scratch, net)
        for net in best.values()
        if net.start and (scratch := best.get((*_alike(net), "", "")))
    ]
    return sorted(pairs, key=lambda pair: (*pair.line, pair.images))


def _alike(net: Net) -> tuple[Hashable, ...]:
    """Equal for nets that differ in nothing but rate, seed and the weights that they start from."""
    recipe = json.dumps({**recipe_of(net), "norm_scale": ""}, sort_keys=True)
    return net.name, net.num_train, net.split, net.steps, recipe


def transfer_figure(pairs: Sequence[Pair], depths: Sequence[int]) -> Draw:
    """A line for each start, error against images on a logarithmic axis, in the colour of its depth; random weights dashed."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(theme, 8, 4.4)
        axes = figure.subplots()
        lines = list(dict.fromkeys(pair.line for pair in pairs))
        for at, line in enumerate(lines):
            places = [(pair.images, pair.started) for pair in pairs if pair.line == line]
            colour, marker = theme.colour(places[0][1].model.depth, depths), STARTS[at % len(STARTS)]
            _line(axes, places, color=colour, marker=marker, label=f"{line[0]} from {line[1]}")
        for name in dict.fromkeys(name for name, *_ in lines):
            scratch = {pair.images: pair.scratch for pair in pairs if pair.scratch.name == name}
            style = {"color": theme.muted, "linestyle": DASHED, "marker": "o"}
            _line(axes, sorted(scratch.items()), label=f"{name} from random weights", **style)
        axes.set_xscale("log")
        ticks = sorted({pair.images for pair in pairs})
        axes.set_xticks(ticks, [md.count(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("training images")
        axes.set_ylabel("top-1 test error (%)")
        axes.set_ylim(bottom=0)
        if theme.narrow:
            figure.legend(loc="outside lower left")
        else:
            axes.legend(loc="best")
        return figure

    return draw


def _line(axes: Any, places: Sequence[tuple[int, Net]], **how: Any) -> None:
    xs, ys = [images for images, _ in places], [100 * (net.test_err1 or 0) for _, net in places]
    ends = [net.ci95 or (0.0, 0.0) for _, net in places]
    below = [y - 100 * low for y, (low, _) in zip(ys, ends, strict=True)]
    above = [100 * high - y for y, (_, high) in zip(ys, ends, strict=True)]
    axes.errorbar(xs, ys, yerr=[below, above], capsize=3, **how)
