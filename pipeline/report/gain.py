"""What averaging gains: the ensemble beside its best member, or beside each member where none can be chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report import markdown as md
from pipeline.report.inputs import ReportInputs
from pipeline.report.nets import described


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
    low, high = inputs.gain["ci95"]
    p = inputs.ensemble.get("mcnemar_p")
    verdict = "excludes zero" if low > 0 or high < 0 else "includes zero, so the difference may be chance"
    listed = inputs.ensemble["selection"] == "listed"
    chosen = "" if listed else " Members were selected by validation error, never by test images."
    test = "" if p is None else f"; McNemar's exact test gives p {_p(p, '= ')}"
    return [
        md.paragraph(
            "The ensemble's error minus that of its best member, both on the same test images, is ",
            md.strong(f"{md.points(inputs.gain['estimate'])} points"),
            f". The 95% interval, {md.points(low)} to {md.points(high)}, {verdict}{test}.{chosen}",
        )
    ]


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
