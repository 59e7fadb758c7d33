"""Nets that started from given weights beside nets from random ones, trained as long on as many images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.evaluation.intervals import newcombe
from pipeline.report.document import Block, Figure, Paragraph, Table, Text, count, interval, percent, points
from pipeline.report.inputs import Net, ReportInputs, full_name
from pipeline.report.theme import Draw, Theme, new_figure


class Pair(NamedTuple):
    """Two trainings of one net for as many steps, of each kind the one that validates best."""

    images: int
    scratch: Net
    started: Net


def transfer(inputs: ReportInputs) -> list[Block]:
    """The section's blocks."""
    pairs = paired(inputs)
    if not pairs:
        return [
            Paragraph(
                "No net that started from given weights was evaluated beside one from random weights; "
                "`sweep=transfer start.weights=...` with evaluation.runs=all makes both."
            )
        ]
    rows: list[list[Text]] = []
    n = inputs.num_test
    for images, scratch, started in pairs:
        gain = newcombe(round(started["test_err1"] * n), n, round(scratch["test_err1"] * n), n)
        rows.append(
            [
                full_name(started),
                started.get("start", ""),
                count(images),
                f"{percent(scratch['test_err1'])} ({interval(scratch['ci95'])})",
                f"{percent(started['test_err1'])} ({interval(started['ci95'])})",
                f"{points(started['test_err1'] - scratch['test_err1'])} ({interval((gain.low, gain.high))})",
            ]
        )
    header = ["net", "started from", "images", "random weights", "transferred", "difference"]
    caption = (
        "Test error, with 95% intervals, of trainings of the same length on as many training images; of several, the one "
        f"that validates best. Differences in percentage points. Iterations: {_steps(pairs)}."
    )
    blocks: list[Block] = [Table(header, rows, "llrrrr", caption)]
    if len({pair.images for pair in pairs}) > 1:
        told = ", ".join(f"{count(p.images)}: {percent(p.started['test_err1'])}" for p in pairs)
        figure = Figure(
            "transfer",
            "Test error by the number of training images, with 95% intervals.",
            f"Test error of transferred nets by training images, {told}",
            transfer_figure(pairs),
        )
        blocks.append(figure)
    return blocks


def _steps(pairs: Sequence[Pair]) -> str:
    return ", ".join(count(steps) for steps in sorted({pair.started["steps"] for pair in pairs}))


def paired(inputs: ReportInputs) -> list[Pair]:
    """Every net from given weights with its counterpart, by what it started from, then by images."""
    found: dict[tuple[str, int, int, str], Net] = {}
    for net in inputs.nets:
        slot = (net["model"], net.get("num_train", 0), net["steps"], net.get("start", ""))
        if slot not in found or _val(net) < _val(found[slot]):
            found[slot] = net
    whole = inputs.data["counts"].get("train", 0)
    pairs = [
        Pair(images or whole, found[model, images, steps, ""], net)
        for (model, images, steps, start), net in found.items()
        if start and (model, images, steps, "") in found
    ]
    return sorted(pairs, key=lambda pair: (pair.started["model"], pair.started.get("start", ""), pair.images))


def _val(net: Net) -> float:
    return 1.0 if net["val_err1"] is None else net["val_err1"]


def transfer_figure(pairs: Sequence[Pair]) -> Draw:
    """A line a start, error against images on a logarithmic axis; from random weights dashed."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(8, 4.4)
        axes = figure.subplots()
        starts = list(dict.fromkeys((pair.started["model"], pair.started.get("start", "")) for pair in pairs))
        for at, (model, start) in enumerate(starts):
            mine = [pair for pair in pairs if (pair.started["model"], pair.started.get("start", "")) == (model, start)]
            _line(
                axes, [(p.images, p.started) for p in mine], theme.colour(at, range(len(starts))), "-", f"from {start}"
            )
        scratch = {(pair.scratch["model"], pair.images): pair.scratch for pair in pairs}
        for model in dict.fromkeys(model for model, _ in scratch):
            line = sorted(((images, net) for (m, images), net in scratch.items() if m == model), key=lambda at: at[0])
            _line(axes, line, theme.muted, (0, (4, 2)), f"{full_name(line[0][1])} from random weights")
        axes.set_xscale("log")
        ticks = sorted({pair.images for pair in pairs})
        axes.set_xticks(ticks, [count(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("training images")
        axes.set_ylabel("test error (%)")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right")
        return figure

    return draw


def _line(axes: Any, at: Sequence[tuple[int, Net]], colour: Any, style: Any, label: str) -> None:
    xs, ys = [images for images, _ in at], [100 * net["test_err1"] for _, net in at]
    low = [100 * (net["test_err1"] - net["ci95"][0]) for _, net in at]
    high = [100 * (net["ci95"][1] - net["test_err1"]) for _, net in at]
    axes.errorbar(xs, ys, yerr=[low, high], color=colour, linestyle=style, marker="o", capsize=3, label=label)
