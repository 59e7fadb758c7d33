"""Ours beside the paper's, where the data set is the paper's, and what differs between the two protocols."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report.curves import VAL, series
from pipeline.report.document import (
    Block,
    Figure,
    Fold,
    Listing,
    Paragraph,
    Table,
    Text,
    count,
    interval,
    percent,
    signed,
)
from pipeline.report.figures import Mark, beside_paper
from pipeline.report.inputs import Ensemble, Net, ReportInputs, as_the_paper, full_name, ids, kind_of, short_name
from pipeline.report.paper import PAPER_ENSEMBLE, PROTOCOLS, PUBLISHED, Protocol, Published
from pipeline.report.trained import FULL_LENGTH


def comparison(inputs: ReportInputs) -> list[Block]:
    """The section's blocks; one sentence where the paper has no number for this data set."""
    name = inputs.data["name"]
    protocol = PROTOCOLS.get(name)
    if protocol is None:
        known = " and ".join(p.title for p in PROTOCOLS.values())
        return [Paragraph(f"The paper has no result on {name}: its classification tables are of {known}.")]
    results = [result for result in PUBLISHED if result.dataset == name]
    nets = [result for result in results if result.model]
    blocks: list[Block] = []
    if apart := differences(inputs, protocol):
        blocks += [Paragraph("What differs from the paper:"), Listing(apart)]
    if inputs.nets:
        blocks.append(_figure(inputs, nets))
    blocks.append(_table(inputs, nets, protocol))
    if notes := _notes(nets) + _unmatched(inputs, nets):
        blocks.append(Listing(notes))
    others = [result for result in results if not result.model]
    if others:
        rows: list[list[Text]] = [[r.net, r.printed, r.reference, r.note] for r in others]
        table = Table(["method", "top-1 error", "source", ""], rows, "lrll")
        blocks.append(Fold("Other methods in the paper's table", [table]))
    return blocks


def _notes(results: Sequence[Published]) -> list[str]:
    nets: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.note:
            nets.setdefault((result.reference, result.note), []).append(result.net)
    return [f"† {', '.join(names)} in {reference}: {note}." for (reference, note), names in nets.items()]


def _unmatched(inputs: ReportInputs, results: Sequence[Published]) -> list[str]:
    """Evaluated nets that stand in no row: another depth, or the depth with an option or stride the paper has no error of."""
    known = {result.model for result in results}
    apart = sorted({full_name(net) for net in inputs.nets if net["model"] not in known})
    return (
        [f"Evaluated here and in no row, since the paper has no error of such a net: {', '.join(apart)}."]
        if apart
        else []
    )


def differences(inputs: ReportInputs, protocol: Protocol) -> list[str]:
    """A sentence for each way in which these runs are not the paper's."""
    counts, steps = inputs.data["counts"], sorted({net["steps"] for net in inputs.nets if as_the_paper(net)})
    found = []
    if (steps and steps[-1] != protocol.steps) or len(steps) > 1:
        span = count(steps[0]) if len(steps) == 1 else f"{count(steps[0])} to {count(steps[-1])}"
        share = percent(steps[-1] / protocol.steps, 1)
        found.append(
            f"Iterations: {span} here, {count(protocol.steps)} in the paper. The longest run is {share} of the paper's"
            f"{', so these errors are not a reproduction of its tables' if steps[-1] < FULL_LENGTH * protocol.steps else ''}."
        )
    lrs = sorted({net["lr"] for net in inputs.nets if net["lr"] is not None} - {protocol.lr})
    if lrs:
        rates = ", ".join(f"{lr:g}" for lr in lrs)
        found.append(f"Learning rate: {rates} in some or all runs here, {protocol.lr:g} at first in the paper.")
    found += _recipe(inputs, protocol)
    found += _precision(inputs)
    train, val = counts.get("train", 0), counts.get("val", 0)
    full = inputs.on_all_images
    if train != protocol.num_train and (len(full) < len(inputs.nets) or not full):
        found.append(
            f"Training images: {count(train)} here, {count(protocol.num_train)} in the data set; "
            f"{count(val)} are held out to choose checkpoints and members."
        )
    if full:
        names = ", ".join(full_name(net) for net in full)
        found.append(f"Trained on all {count(train + val)} training images, with nothing chosen: {names}.")
    if inputs.num_test != protocol.num_test:
        found.append(f"Test images: {count(inputs.num_test)} here, {count(protocol.num_test)} in the paper.")
    views = (inputs.evaluation.get("data") or {}).get("protocol") or "not recorded"
    if views != protocol.views and inputs.data["name"] != "cifar10":  # a 32x32 image has one view
        found.append(f"Views of a test image: {views} here, {protocol.views} in the paper's comparisons.")
    statistics = (inputs.evaluation.get("data") or {}).get("batchnorm", "running")
    if statistics == "running":
        found.append(
            "Batch norm: training's running averages here; in the authors' released nets, averages taken after training."
        )
    if inputs.nets:
        found.append(_seeds(inputs))
    return found


def _recipe(inputs: ReportInputs, protocol: Protocol) -> list[str]:
    """What of the recipe is not the paper's, of the nets that were evaluated."""
    tested = {name for net in inputs.nets if as_the_paper(net) for name in ids(net)}
    apart: dict[str, set[str]] = {}
    for curve in (curve for curve in inputs.curves if ids(curve) & tested):
        for key, value in curve.get("recipe", {}).items():
            if not protocol.has(key, value):
                apart.setdefault(key, set()).add(f"{value:g}" if isinstance(value, float) else str(value))
    told = [f"{key} {', '.join(sorted(apart[key]))} (the paper: {protocol.recipe[key]})" for key in sorted(apart)]
    return [f"Recipe, in some or all runs: {'; '.join(told)}."] if told else []


def _precision(inputs: ReportInputs) -> list[str]:
    tested = {name for net in inputs.nets if as_the_paper(net) for name in ids(net)}
    used = {str(curve.get("recipe", {}).get("precision", "fp32")) for curve in inputs.curves if ids(curve) & tested}
    apart = sorted(used - {"fp32"})
    return [f"Precision: {' and '.join(apart)} in some or all runs here, fp32 in the paper."] if apart else []


def _seeds(inputs: ReportInputs) -> str:
    slots = [net["model"] for net in inputs.nets if as_the_paper(net)]
    most = max((slots.count(slot) for slot in slots), default=0)
    runs = "each net was trained once" if most <= 1 else f"a net was trained up to {most} times, each run a row"
    return f"Runs: here {runs}; an interval is over test images and says nothing of what another seed would give."


def _ours(inputs: ReportInputs, result: Published) -> list[Net]:
    return [net for net in inputs.nets if net["model"] == result.model and as_the_paper(net)]


def _table(inputs: ReportInputs, results: Sequence[Published], protocol: Protocol) -> Table:
    with_top5 = any(result.err5 is not None for result in results)
    views = (inputs.evaluation.get("data") or {}).get("protocol")
    rows: list[list[Text]] = []
    for result in results:
        trained: list[Net | None] = [*_ours(inputs, result)]
        curve = None if trained else _validated(inputs, result)
        alike = not result.views or result.views == views
        rows += [_row(result, net, curve, protocol, with_top5, alike) for net in trained or [None]]
    if inputs.data["name"] == PAPER_ENSEMBLE.dataset:
        rows.append(_ensemble_row(inputs))
    header = ["net", "source", "paper", "ours", "95% interval", "ours − paper", "our iterations"]
    caption = (
        f"{'Top-1 / top-5' if with_top5 else 'Top-1'} test error; where a net was not evaluated on the test images, its validation error, marked so. "
        "“ours − paper” is in percentage points; iterations also as a share of the paper's."
    )
    return Table(header, rows, "llrrrrr", caption)


def _validated(inputs: ReportInputs, result: Published) -> tuple[float, int] | None:
    """Lowest last validation error among the curves of a net, and where it was measured."""
    ends = [
        (values[-1][1], int(values[-1][0]))
        for curve in inputs.curves
        if curve["model"] == result.model
        and curve.get("plainly", True)
        and curve.get("complete", True)
        and (values := series(curve, VAL))
    ]
    return min(ends, default=None)


def _row(
    result: Published,
    net: Net | None,
    curve: tuple[float, int] | None,
    protocol: Protocol,
    with_top5: bool,
    alike: bool,
) -> list[Text]:
    """alike: whether both errors are of the same views of an image, so that their difference means something."""
    source = ", ".join(part for part in (result.reference, result.views) if part) + (" †" if result.note else "")
    if net:
        gap = "" if result.err1 is None or not alike else signed(100 * net["test_err1"] - result.err1, True)
        gap = f"≈{gap}" if result.read_off else gap
        mine = [_errors(net, with_top5), _intervals(net, with_top5), gap, _length(net["steps"], protocol)]
    elif curve:
        mine = [f"{percent(curve[0])} (validation)", "", "", _length(curve[1], protocol)]
    else:
        mine = ["not evaluated", "", "", ""]
    return [result.net, source, result.printed, *mine]


def _errors(ours: Net | Ensemble, with_top5: bool) -> str:
    top1, top5 = percent(ours["test_err1"]), ours["test_err5"]
    return top1 if not with_top5 or top5 is None else f"{top1[:-1]} / {percent(top5)}"


def _intervals(ours: Net | Ensemble, with_top5: bool) -> str:
    top1, top5 = interval(ours["ci95"]), ours.get("ci95_err5")
    return top1 if not with_top5 or top5 is None else f"{top1[:-1]} / {interval(top5)}"


def _length(steps: int, protocol: Protocol) -> str:
    return f"{count(steps)} ({percent(steps / protocol.steps, 0)})"


def _ensemble_row(inputs: ReportInputs) -> list[Text]:
    paper, ours = PAPER_ENSEMBLE, inputs.ensemble
    source = f"{paper.reference}, {paper.views}, test server"
    if ours is None:
        return [paper.net, source, paper.printed, "not made", "", "", ""]
    name = f"{paper.net}; ours: {ours['size']}"
    return [name, source, paper.printed, _errors(ours, True), _intervals(ours, True), "", ""]


def _figure(inputs: ReportInputs, results: Sequence[Published]) -> Figure:
    paper: dict[bool, list[Mark]] = {True: [], False: []}
    seen = set()
    for result in results:  # the first row of a depth is the one that is drawn
        slot = (result.residual, result.depth)
        if result.err1 is not None and result.depth is not None and slot not in seen:
            seen.add(slot)
            paper[result.residual].append(Mark(result.depth, result.err1 / 100, None))
    ours: dict[bool, list[Mark]] = {True: [], False: []}
    for net in (net for net in inputs.nets if kind_of(net) != "others" and as_the_paper(net)):
        ours[net["residual"]].append(Mark(net["depth"], net["test_err1"], (net["ci95"][0], net["ci95"][1])))
    plain = ", its plain ones as read off Fig. 6" if any(result.read_off for result in results) else ""
    caption = (
        f"Error by depth. Lines: the paper's nets{plain}. "
        "In colour: ours, with 95% intervals; each is one run, of the iterations given in the table."
    )
    names = ", ".join(f"{short_name(n)} {percent(n['test_err1'])}" for n in inputs.nets)
    return Figure(
        "beside-paper",
        caption,
        f"Error by depth, the paper's and ours: {names}",
        beside_paper(paper, ours, inputs.depths),
    )
