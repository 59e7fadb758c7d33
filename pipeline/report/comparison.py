"""Our results beside the paper's, where the data set is the paper's, and what differs between the two protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.record import Net
from pipeline.report.figures import Mark, beside_paper
from pipeline.report.inputs import VAL, ReportInputs, as_the_paper, kind_of, recipe_of
from pipeline.report.markdown import Block, Figure, bullets, count, fold, interval, paragraph, percent, signed, table
from pipeline.report.paper import NETS, PAPER_ENSEMBLE, PROTOCOLS, PUBLISHED, Protocol, Published
from pipeline.report.trainings import FULL_LENGTH


def comparison(inputs: ReportInputs) -> list[Block]:
    """The section's blocks; one sentence where the paper has no number for this data set."""
    name = inputs.data["name"]
    protocol = PROTOCOLS.get(name)
    if protocol is None:
        titles = " and ".join(p.title for p in PROTOCOLS.values())
        return [paragraph(f"The paper has no result on {name}: its classification tables are of {titles}.")]
    results = [result for result in PUBLISHED if result.dataset == name]
    nets = [result for result in results if result.net in NETS]
    blocks: list[Block] = []
    if apart := differences(inputs, protocol):
        blocks += [paragraph("What differs from the paper:"), bullets(apart)]
    if inputs.nets:
        blocks.append(_figure(inputs, nets))
    blocks.append(_table(inputs, nets, protocol))
    if notes := _notes(nets) + _unmatched(inputs, nets):
        blocks.append(bullets(notes))
    if others := [result for result in results if result.net not in NETS]:
        rows = [[r.net, r.printed, r.reference, r.note] for r in others]
        cited = table(["method", "top-1 error", "source", ""], rows, "lrll")
        blocks.append(fold("Other methods in the paper's table", cited))
    return blocks


def _notes(results: Sequence[Published]) -> list[str]:
    nets: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.note:
            nets.setdefault((result.reference, result.note), []).append(result.net)
    return [f"† {', '.join(names)} in {reference}: {note}." for (reference, note), names in nets.items()]


def _unmatched(inputs: ReportInputs, results: Sequence[Published]) -> list[str]:
    """Evaluated nets that stand in no row: another depth, option or stride than the paper's."""
    apart = sorted({net.name for net in inputs.nets} - {result.net for result in results})
    return [f"Evaluated here, but the paper prints no error of such a net: {', '.join(apart)}."] if apart else []


def differences(inputs: ReportInputs, protocol: Protocol) -> list[str]:
    """A sentence for each way in which these runs are not the paper's."""
    runs = [net for net in inputs.nets if as_the_paper(net)]
    sentences = [*_length(runs, protocol), *_recipe(runs, protocol), *_images(inputs, protocol)]
    if (views := inputs.views or "not recorded") != protocol.views and inputs.data["name"] != "cifar10":
        # A 32x32 image has one view.
        sentences.append(f"Views of a test image: {views} here, {protocol.views} in the paper's comparisons.")
    if (inputs.evaluation.get("data") or {}).get("batchnorm", "running") == "running":
        sentences.append(
            "Batch norm: training's running averages here; in the authors' released nets, averages taken after training."
        )
    return [*sentences, *_seeds(inputs, runs)]


def _length(runs: Sequence[Net], protocol: Protocol) -> list[str]:
    steps = sorted({net.steps for net in runs})
    if not steps or steps == [protocol.steps]:
        return []
    span = count(steps[0]) if len(steps) == 1 else f"{count(steps[0])} to {count(steps[-1])}"
    text = f"Steps: {span} here, {count(protocol.steps)} in the paper. The longest run has {percent(steps[-1] / protocol.steps, 1)} of the paper's."
    if steps[-1] < FULL_LENGTH * protocol.steps:
        text += " These runs are too short to compare with the paper's tables."
    return [text]


def _recipe(runs: Sequence[Net], protocol: Protocol) -> list[str]:
    """How the recipe is not the paper's, of the nets that were evaluated."""
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
        sentences.append(f"Precision: {' and '.join(precisions)} in some or all runs here, fp32 in the paper.")
    return sentences


def _images(inputs: ReportInputs, protocol: Protocol) -> list[str]:
    train, val = inputs.data["counts"].get("train", 0), inputs.data["counts"].get("val", 0)
    full, sentences = inputs.on_all_images, []
    if train != protocol.num_train and (len(full) < len(inputs.nets) or not full):
        sentences.append(
            f"Training images: {count(train)} here, {count(protocol.num_train)} in the data set; "
            f"{count(val)} are held out to choose checkpoints and members."
        )
    if full:
        names = ", ".join(net.name for net in full)
        sentences.append(f"Trained on all {count(train + val)} training images, with nothing chosen: {names}.")
    if inputs.num_test != protocol.num_test:
        sentences.append(f"Test images: {count(inputs.num_test)} here, {count(protocol.num_test)} in the paper.")
    return sentences


def _seeds(inputs: ReportInputs, runs: Sequence[Net]) -> list[str]:
    if not inputs.nets:
        return []
    names = [net.name for net in runs]
    most = max(map(names.count, names), default=0)
    times = "each net was trained once" if most <= 1 else f"a net was trained up to {most} times, each run a row"
    return [f"Runs: here {times}; an interval is over test images and says nothing of what another seed would give."]


def _table(inputs: ReportInputs, results: Sequence[Published], protocol: Protocol) -> Block:
    with_top5 = any(result.err5 is not None for result in results)
    rows: list[list[str]] = []
    for result in results:
        runs = [net for net in inputs.nets if net.name == result.net and as_the_paper(net)]
        # A difference means something only between errors of the same views of an image.
        alike = not result.views or result.views == inputs.views
        rows += [[*_cited(result), *_ours(net, result, alike), _steps(net.steps, protocol)] for net in runs]
        if not runs:
            rows.append([*_cited(result), *_validated(inputs, result, protocol)])
    if inputs.data["name"] == PAPER_ENSEMBLE.dataset:
        rows.append(_ensemble_row(inputs))
    caption = (
        f"{'Top-1 / top-5' if with_top5 else 'Top-1'} test error; where a net was not evaluated on the test images, its validation error, marked so. "
        "“ours − paper” is in percentage points; steps also as a share of the paper's."
    )
    header = ["net", "source", "paper", "ours", "95% interval", "ours − paper", "our steps"]
    return table(header, rows, "llrrrrr", caption)


def _cited(result: Published) -> list[str]:
    source = ", ".join(part for part in (result.reference, result.views) if part)
    return [result.net, source + (" †" if result.note else ""), result.printed]


def _ours(net: Net, result: Published, alike: bool) -> list[str]:
    gap = ""
    if result.err1 is not None and alike:
        gap = ("≈" if result.read_off else "") + signed(100 * (net.test_err1 or 0.0) - result.err1)
    return [*_errors(asdict(net), result.dataset != "cifar10"), gap]


def _validated(inputs: ReportInputs, result: Published, protocol: Protocol) -> list[str]:
    """The lowest last validation error among the curves of a net that was not tested."""
    nets = [c for c in inputs.curves if c.net.name == result.net and c.net.complete and as_the_paper(c.net)]
    ends = [curve.series(VAL)[-1] for curve in nets if curve.series(VAL)]
    if not ends:
        return ["not evaluated", "", "", ""]
    step, error = min(ends, key=lambda end: end[1])
    return [f"{percent(error)} (validation)", "", "", _steps(int(step), protocol)]


def _errors(ours: Mapping[str, Any], with_top5: bool) -> list[str]:
    """Error and interval; with_top5: both again for top-5, where it was measured."""
    error, bounds = percent(ours["test_err1"]), interval(ours["ci95"])
    if with_top5 and ours["test_err5"] is not None:
        error = f"{error[:-1]} / {percent(ours['test_err5'])}"
        if ours.get("ci95_err5") is not None:
            bounds = f"{bounds[:-1]} / {interval(ours['ci95_err5'])}"
    return [error, bounds]


def _steps(steps: int, protocol: Protocol) -> str:
    return f"{count(steps)} ({percent(steps / protocol.steps, 0)})"


def _ensemble_row(inputs: ReportInputs) -> list[str]:
    paper, ours = PAPER_ENSEMBLE, inputs.ensemble
    source = f"{paper.reference}, {paper.views}, test server"
    if ours is None:
        return [paper.net, source, paper.printed, "not made", "", "", ""]
    return [f"{paper.net}; ours: {ours['size']}", source, paper.printed, *_errors(ours, True), "", ""]


def _figure(inputs: ReportInputs, results: Sequence[Published]) -> Figure:
    paper: dict[bool, list[Mark]] = {True: [], False: []}
    drawn = set()
    for result in results:  # the first row of a depth is the one that is drawn
        net = NETS[result.net].model
        slot = (net.residual, net.depth)
        if result.err1 is not None and result.of_the_paper and slot not in drawn:
            drawn.add(slot)
            paper[net.residual].append(Mark(net.depth, result.err1 / 100, None))
    ours: dict[bool, list[Mark]] = {True: [], False: []}
    for run in (net for net in inputs.nets if kind_of(net) != "others" and as_the_paper(net)):
        ours[run.model.residual].append(Mark(run.model.depth, run.test_err1 or 0.0, run.ci95))
    plain = ", its plain ones as read off Fig. 6" if any(result.read_off for result in results) else ""
    caption = (
        f"Error by depth. Lines: the paper's nets{plain}. "
        "In colour: ours, with 95% intervals; each is one run, of the steps given in the table."
    )
    errors = ", ".join(f"{net.name} {percent(net.test_err1)}" for net in inputs.nets)
    alt = f"Error by depth, the paper's and ours: {errors}"
    return Figure("beside-paper", caption, alt, beside_paper(paper, ours, inputs.depths))
