"""Our results beside the paper's on its data sets, and the differences between the two protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.record import Net
from pipeline.report import markdown as md
from pipeline.report.curve import VAL
from pipeline.report.inputs import ReportInputs
from pipeline.report.paper import NETS, PAPER_ENSEMBLE, PROTOCOLS, PUBLISHED, Protocol, Published
from pipeline.report.theme import Draw, Theme, legend_above, new_figure
from pipeline.report.trainings import FULL_LENGTH
from pipeline.report.traits import as_the_paper, kind_of, recipe_of


def comparison(inputs: ReportInputs) -> list[md.Block]:
    """The section's blocks; a sentence where the paper has no number for this data set."""
    name = inputs.data["name"]
    protocol = PROTOCOLS.get(name)
    if protocol is None:
        titles = " and ".join(p.title for p in PROTOCOLS.values())
        return [md.paragraph(f"The paper has no result on {name}: its classification tables are of {titles}.")]
    results = [result for result in PUBLISHED if result.dataset == name]
    nets = [result for result in results if result.net in NETS]
    blocks: list[md.Block] = []
    if apart := differences(inputs, protocol):
        blocks += [md.paragraph("Differences from the paper:"), md.bullets(apart)]
    if inputs.nets:
        blocks.append(_figure(inputs, nets))
    blocks.append(_table(inputs, nets, protocol))
    if notes := _notes(nets) + _unmatched(inputs, nets):
        blocks.append(md.bullets(notes))
    if others := [result for result in results if result.net not in NETS]:
        rows = [[r.net, r.printed, r.reference, r.note] for r in others]
        cited = md.table(
            ["method", "top-1 / top-5 error" if any(r.err5 for r in others) else "top-1 error", "source", ""],
            rows,
            "lrll",
        )
        blocks.append(md.fold("Other methods in the paper's table", cited))
    return blocks


def _notes(results: Sequence[Published]) -> list[str]:
    nets: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.note:
            nets.setdefault((result.reference, result.note), []).append(result.net)
    return [f"† {', '.join(names)} in {reference}: {note}." for (reference, note), names in nets.items()]


def _unmatched(inputs: ReportInputs, results: Sequence[Published]) -> list[str]:
    """Evaluated nets without a row: their depth, option or stride is not in the paper's table."""
    names = sorted({net.name for net in inputs.nets} - {result.net for result in results})
    return [f"Evaluated here, but the paper prints no error of such a net: {', '.join(names)}."] if names else []


def differences(inputs: ReportInputs, protocol: Protocol) -> list[str]:
    """A sentence for each difference between these runs and the paper's."""
    runs = [net for net in inputs.nets if as_the_paper(net)]
    sentences = [*_length(runs, protocol), *_recipe(runs, protocol), *_images(inputs, protocol)]
    if (views := inputs.views or "not recorded") != protocol.views and inputs.data["name"] != "cifar10":
        # A 32x32 image has one view.
        sentences.append(f"Views of a test image: {views} here, {protocol.views} in the paper's comparisons.")
    if (inputs.evaluation.get("data") or {}).get("batchnorm", "running") == "running":
        sentences.append(
            "Batch norm: training's running averages here, averages computed after training in the authors' released nets."
        )
    return [*sentences, *_seeds(inputs, runs)]


def _length(runs: Sequence[Net], protocol: Protocol) -> list[str]:
    steps = sorted({net.steps for net in runs})
    if not steps or steps == [protocol.steps]:
        return []
    span = md.count(steps[0]) if len(steps) == 1 else f"{md.count(steps[0])} to {md.count(steps[-1])}"
    text = f"Steps: {span} here, {md.count(protocol.steps)} in the paper. The longest run has {md.percent(steps[-1] / protocol.steps, 1)} of the paper's."
    if steps[-1] < FULL_LENGTH * protocol.steps:
        text += " These runs are too short to compare with the paper's tables."
    return [text]


def _recipe(runs: Sequence[Net], protocol: Protocol) -> list[str]:
    """Differences of recipe among the evaluated nets."""
    sentences: list[str] = []
    apart: dict[str, set[str]] = {}
    if rates := sorted({net.lr for net in runs if net.lr is not None} - {protocol.lr}):
        here = ", ".join(f"{lr:g}" for lr in rates)
        sentences.append(f"Learning rate: {here} in some or all runs here, {protocol.lr:g} at first in the paper.")
    for net in runs:
        for key, value in recipe_of(net).items():
            if not protocol.has(key, value):
                apart.setdefault(key, set()).add(f"{value:g}" if isinstance(value, float) else str(value))
    parts = [f"{key} {', '.join(sorted(apart[key]))} (the paper: {protocol.recipe[key]})" for key in sorted(apart)]
    sentences += [f"Recipe, in some or all runs: {'; '.join(parts)}."] if parts else []
    precisions = sorted({net.recipe.precision for net in runs if net.recipe} - {"fp32"})
    if precisions:
        sentences.append(
            f"Precision: {' and '.join(precisions)} in some or all trainings and their validation errors; "
            "fp32 in ensembles, in test errors and in the paper."
        )
    return sentences


def _images(inputs: ReportInputs, protocol: Protocol) -> list[str]:
    train, val = inputs.data["counts"].get("train", 0), inputs.data["counts"].get("val", 0)
    full, sentences = inputs.on_all_images, []
    if train != protocol.num_train and (len(full) < len(inputs.nets) or not full):
        sentences.append(
            f"Training images: {md.count(train)} here, {md.count(protocol.num_train)} in the data set; "
            f"{md.count(val)} are held out to select checkpoints and members."
        )
    if full:
        names = ", ".join(net.name for net in full)
        sentences.append(f"Trained on all {md.count(train + val)} training images, with nothing selected: {names}.")
    if inputs.num_test != protocol.num_test:
        sentences.append(f"Test images: {md.count(inputs.num_test)} here, {md.count(protocol.num_test)} in the paper.")
    return sentences


def _seeds(inputs: ReportInputs, runs: Sequence[Net]) -> list[str]:
    if not inputs.nets:
        return []
    names = [net.name for net in runs]
    most = max(map(names.count, names), default=0)
    times = "each net was trained once" if most <= 1 else f"a net was trained up to {most} times; each run has a row"
    return [f"Runs: here {times}. An interval covers the choice of test images, not the choice of a seed."]


def _table(inputs: ReportInputs, results: Sequence[Published], protocol: Protocol) -> md.Block:
    with_top5 = any(result.err5 is not None for result in results)
    rows: list[list[str]] = []
    for result in results:
        runs = [net for net in inputs.nets if net.name == result.net and as_the_paper(net)]
        # Errors at different views of an image cannot be subtracted.
        alike = not result.views or result.views == inputs.views
        rows += [[*_cited(result), *_ours(net, result, alike), _steps(net.steps, protocol)] for net in runs]
        if not runs:
            rows.append([*_cited(result), *_validated(inputs, result, protocol)])
    if inputs.data["name"] == PAPER_ENSEMBLE.dataset:
        rows.append(_ensemble_row(inputs))
    caption = (
        f"{'Top-1 / top-5' if with_top5 else 'Top-1'} test error; a net that was not evaluated on test images shows its validation error, marked as such. "
        "“ours − paper” is in percentage points; shares are of the paper's steps."
    )
    header = ["net", "source", "paper", "ours", "95% interval", "ours − paper", "our steps"]
    return md.table(header, rows, "llrrrrr", caption)


def _cited(result: Published) -> list[str]:
    source = ", ".join(part for part in (result.reference, result.views) if part)
    return [result.net, source + (" †" if result.note else ""), result.printed]


def _ours(net: Net, result: Published, alike: bool) -> list[str]:
    gap = ""
    if result.err1 is not None and alike:
        gap = ("≈" if result.read_off else "") + md.signed(100 * (net.test_err1 or 0.0) - result.err1)
    return [*_errors(asdict(net), result.dataset != "cifar10"), gap]


def _validated(inputs: ReportInputs, result: Published, protocol: Protocol) -> list[str]:
    """The lowest last validation error among the curves of an untested net."""
    nets = [c for c in inputs.curves if c.net.name == result.net and c.net.complete and as_the_paper(c.net)]
    ends = [curve.series(VAL)[-1] for curve in nets if curve.series(VAL)]
    if not ends:
        return ["not evaluated", "", "", ""]
    step, error = min(ends, key=lambda end: end[1])
    return [f"{md.percent(error)} (validation)", "", "", _steps(int(step), protocol)]


def _errors(ours: Mapping[str, Any], with_top5: bool) -> list[str]:
    """Error and interval; with_top5: those of top-5 too, if it was measured."""
    error, bounds = md.percent(ours["test_err1"]), md.interval(ours["ci95"])
    if with_top5 and ours["test_err5"] is not None:
        error = f"{error[:-1]} / {md.percent(ours['test_err5'])}"
        if ours.get("ci95_err5") is not None:
            bounds = f"{bounds[:-1]} / {md.interval(ours['ci95_err5'])}"
    return [error, bounds]


def _steps(steps: int, protocol: Protocol) -> str:
    return f"{md.count(steps)} ({md.percent(steps / protocol.steps, 0)})"


def _ensemble_row(inputs: ReportInputs) -> list[str]:
    paper, ours = PAPER_ENSEMBLE, inputs.ensemble
    source = f"{paper.reference}, {paper.views}, test server"
    if ours is None:
        return [paper.net, source, paper.printed, "not made", "", "", ""]
    return [f"{paper.net}; ours: {ours['size']}", source, paper.printed, *_errors(ours, True), "", ""]


def _figure(inputs: ReportInputs, results: Sequence[Published]) -> md.Figure:
    first: dict[tuple[bool, int], Published] = {}  # a depth's first row with a top-1 error is the one drawn
    for result in results:
        if result.err1 is not None and result.of_the_paper:
            net = NETS[result.net].model
            first.setdefault((net.residual, net.depth), result)
    ours = [net for net in inputs.nets if kind_of(net) != "others" and as_the_paper(net)]
    plain = ", its plain ones as read off Fig. 6" if any(result.read_off for result in results) else ""
    caption = (
        f"Error by depth. Lines: the paper's nets{plain}. "
        "In colour: our runs with 95% intervals, each trained for the steps given in the table."
    )
    errors = ", ".join(f"{net.name} {md.percent(net.test_err1)}" for net in inputs.nets)
    alt = f"Error by depth, the paper's and ours: {errors}"
    return md.Figure("beside-paper", caption, alt, beside_paper(list(first.values()), ours, inputs.depths))


def beside_paper(paper: Sequence[Published], ours: Sequence[Net], depths: Sequence[int]) -> Draw:
    """Error against depth, residual and plain: lines for the paper, points with intervals for ours."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(theme, 8, 4.2, 3.6)
        axes = figure.add_subplot()
        layers = sorted({NETS[result.net].model.depth for result in paper} | {net.model.depth for net in ours})
        at = {depth: i for i, depth in enumerate(layers)}
        for residual, kind, line, marker in ((True, "residual", "-", "o"), (False, "plain", "--", "s")):
            theirs = [(at[NETS[r.net].model.depth], r.err1) for r in paper if NETS[r.net].model.residual == residual]
            mine = [net for net in ours if net.model.residual == residual]
            hollow = {"color": theme.muted, "marker": marker, "markerfacecolor": theme.background}
            if theirs:
                axes.plot(*zip(*theirs, strict=True), line, linewidth=1.3, label=f"paper, {kind}", **hollow)
            for net in mine:
                error = net.test_err1 or 0.0
                low, high = net.ci95 or (error, error)
                x, colour = at[net.model.depth] + 0.14, theme.colour(net.model.depth, depths)
                axes.plot([x, x], [100 * low, 100 * high], color=colour, linewidth=2.2, solid_capstyle="round")
                axes.plot(x, 100 * error, marker, color=colour, markersize=7.5)
            if mine:
                axes.plot([], [], marker, color=theme.text, markersize=7.5, label=f"ours, {kind}")
        axes.set_xticks(range(len(layers)), [str(depth) for depth in layers])
        axes.set_xlim(-0.5, len(layers) - 0.5)
        axes.set_xlabel("layers")
        axes.set_ylabel("top-1 error (%)")
        legend_above(theme, axes)
        return figure

    return draw
