"""What averaging gains: the ensemble beside its best member, or beside each member where none can be chosen; then by the
number of members, by seeds against depths, and by other ways to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report import markdown as md
from pipeline.report.inputs import ReportInputs
from pipeline.report.markdown import interval, percent, table
from pipeline.report.nets import described
from pipeline.report.theme import Draw, Theme, new_figure, panels


def gain(inputs: ReportInputs) -> list[md.Block]:
    """The comparison on the same test images: a sentence, or a table with a row for each member."""
    if not inputs.ensemble:
        return [md.paragraph("No ensemble was evaluated.")]
    if inputs.ensemble["size"] < 2:
        return [md.paragraph("The ensemble has one member, so averaging changes nothing.")]
    if inputs.best_member is None:
        return _against_each(inputs)
    if not inputs.gain:
        return []
    listed = inputs.ensemble["selection"] == "listed"
    chosen = "" if listed else " Members were selected by validation error, never by test images."
    lead = "The ensemble's error minus that of its best member, both on the same test images, is "
    parts = [lead, *_against_best(inputs.ensemble, ""), "."]
    if inputs.top5_tells:
        parts += [" In top-5 error it is ", *_against_best(inputs.ensemble, "5"), "."]
    return [md.paragraph(*parts, chosen)]


def _against_best(ensemble: Mapping[str, Any], end: str) -> list[str]:
    """**−0.57 points** (95% interval −0.89 to −0.25, which excludes zero; McNemar's exact test gives p < 0.001)."""
    difference, p = ensemble[f"difference_to_best_member{end}"], ensemble.get(f"mcnemar_p{end}")
    test = "" if p is None else f"; McNemar's exact test gives p {_p(p, '= ')}"
    return [md.strong(f"{md.points(difference['estimate'])} points"), f" ({_bounds(difference)}{test})"]


def _apart(difference: Mapping[str, Any]) -> str:
    return f"{md.points(difference['estimate'])} points ({_bounds(difference)})"


def _bounds(difference: Mapping[str, Any]) -> str:
    low, high = difference["ci95"]
    verdict = "excludes zero" if low > 0 or high < 0 else "includes zero: it may be chance"
    return f"95% interval {md.points(low)} to {md.points(high)}, which {verdict}"


def _against_each(inputs: ReportInputs) -> list[md.Block]:
    """Members that were trained on the validation images; the test images must not choose one of them."""
    text = (
        "Without validation errors, no member can be chosen as the best, so the ensemble stands beside each of them. It "
        "gains from averaging only if it errs less than every member."
    )
    if not inputs.against_members:
        return [md.paragraph(text, " `pipeline evaluate` makes the comparisons.")]
    rows = [
        [
            described(member),
            member.key,
            *_difference(member.test_err1, against, ""),
            *_difference(member.test_err5, against, "5"),
        ]
        for member, against in inputs.against_members
    ]
    caption = (
        "Against each member, on the same test images: the member's error, and the ensemble's minus the member's in "
        "percentage points with its 95% interval (paired bootstrap) and the p of McNemar's exact test; the last four columns are top-5."
    )
    columns = ["difference", "95% interval", "p"]
    header = ["member", "run", "test error", *columns, "top-5", *columns]
    return [md.paragraph(text), md.table(header, rows, "ll" + "r" * 8, caption)]


def _difference(error: float | None, against: Mapping[str, Any], end: str) -> list[str]:
    difference = against[f"difference{end}"]
    low, high = difference["ci95"]
    bounds = f"{md.points(low)} to {md.points(high)}"
    return [md.percent(error), md.points(difference["estimate"]), bounds, _p(against[f"mcnemar_p{end}"])]


def _p(p: float, equals: str = "") -> str:
    return "< 0.001" if p < 0.001 else f"{equals}{p:.3f}"


def averaging(inputs: ReportInputs) -> list[md.Block]:
    """By number of members, seeds of one net against nets of several depths, and other ways to choose."""
    return [*_by_members(inputs), *_seeds_against_depths(inputs), *_alternatives(inputs)]


def _by_members(inputs: ReportInputs) -> list[md.Block]:
    sizes = inputs.ensemble.get("by_size", []) if inputs.ensemble else []
    if len(sizes) < 2:
        return []
    order = (
        "as listed" if inputs.ensemble and inputs.ensemble["selection"] == "listed" else "lowest validation error first"
    )
    caption = f"Error of the average of the first members, {order}, snapshots in their order; shaded, the test error's 95% interval."
    alt = "Test error by number of members: " + ", ".join(f"{s['size']}: {percent(s['test_err1'])}" for s in sizes)
    if inputs.top5_tells:
        alt += "; top-5: " + ", ".join(f"{s['size']}: {percent(s['test_err5'])}" for s in sizes)
    return [md.Figure("by-members", caption, alt, by_members(sizes, inputs.top5_tells))]


def by_members(averages: Sequence[Mapping[str, Any]], top5: bool = False) -> Draw:
    """Error against the number of members averaged: test with its interval, and validation; top-5 on test beside it.

    averages: size, val_err1 (None where a member has seen the validation images), test_err1 and ci95 of each, for top5
    also test_err5 and ci95_err5.
    """

    def draw(theme: Theme) -> Any:
        figure = new_figure(theme, 8, 3.4, 2.9 * (1 + top5))
        both = panels(theme, figure, 1 + top5)
        sizes, (test, validation) = [average["size"] for average in averages], (theme.text, theme.muted)
        for axes, name, error, bounds in zip(
            both, ("top-1", "top-5"), ("test_err1", "test_err5"), ("ci95", "ci95_err5"), strict=False
        ):
            low, high = ([100 * average[bounds][end] for average in averages] for end in (0, 1))
            axes.fill_between(sizes, low, high, color=test, alpha=0.15, linewidth=0)
            errors = [100 * average[error] for average in averages]
            axes.plot(sizes, errors, "o-", color=test, linewidth=2, markersize=6, label="test")
            axes.set_xticks(sizes)
            axes.set_xlabel("members")
            axes.set_ylabel(f"{name} error (%)")
        validated = [(a["size"], 100 * a["val_err1"]) for a in averages if a["val_err1"] is not None]
        if validated:
            style = {"color": validation, "linewidth": 1.6, "markersize": 4, "label": "validation"}
            both[0].plot(*zip(*validated, strict=True), "o--", **style)
        both[0].legend(loc="best")
        return figure

    return draw


def _seeds_against_depths(inputs: ReportInputs) -> list[md.Block]:
    """Seeds of one net against nets of several depths, averaged; nothing unless there are two of each."""
    sizes = inputs.evaluation.get("seeds_against_depths", [])
    if not sizes:
        return []
    rows = [[str(s["size"]), *_average(s["seeds"]), *_average(s["depths"])] for s in sizes]
    last = sizes[-1]
    depths = ", ".join(last["depths"]["models"])
    seeds, other = (percent(last[side]["test_err1"]) for side in ("seeds", "depths"))
    apart = last.get("depths_minus_seeds")  # which published results may lack
    verdict = "" if apart is None else f"; the difference is {_apart(apart)}, over images"
    gained = [md.points(last[side]["test_err1"] - last[side]["alone"]) for side in ("seeds", "depths")]
    lead = (
        f"Does an ensemble need nets of different depth, as the paper's has? Averages of seeds of {last['net']} are compared "
        f"with averages of the best net of each depth ({depths}), trained by the same recipe. All are chosen by validation error, "
        f"lowest first. At {last['size']} nets, seeds err {seeds} and depths {other}{verdict}. Averaging itself changes the "
        f"mean error of the single nets by {gained[0]} points with seeds and by {gained[1]} with depths."
    )
    header = ["nets", f"seeds of {last['net']}", "95% interval", "alone", "depths", "95% interval", "alone"]
    caption = (
        "Top-1 test error of equally weighted averages. Alone: mean error of the single nets of an average. The difference "
        "is the gain from averaging; nets of other depths may err more or less from the start."
    )
    return [md.paragraph(lead), table(header, rows, "r" * 7, caption)]


def _average(average: Mapping[str, Any]) -> list[str]:
    return [percent(average["test_err1"]), interval(average["ci95"]), percent(average["alone"])]


def _alternatives(inputs: ReportInputs) -> list[md.Block]:
    """The same nets combined in other ways."""
    ways = inputs.evaluation.get("alternatives", [])
    if not ways:
        return []
    rows = [
        [
            way["selection"].replace("_", " "),
            "fitted" if way["temperature"] == "validation" else "none",
            ", ".join(way["members"]),
            percent(way["val_err1"]),
            percent(way["test_err1"]),
            interval(way["ci95"]),
            *((percent(way["test_err5"]), interval(way["ci95_err5"])) if inputs.top5_tells else ()),
        ]
        for way in ways
    ]
    header = ["selection", "temperature", "members", "validation", "test error", "95% interval"]
    header += ["top-5", "95% interval"] if inputs.top5_tells else []
    caption = (
        "Other ways to choose members of all nets above. Each chooses, and fits temperatures, on validation images; the test "
        "errors show how much the way matters."
    )
    return [table(header, rows, "lll" + "r" * (len(header) - 3), caption)]
