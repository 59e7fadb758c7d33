"""Learning curves of detectors: AP and AP50 on validation images against steps."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report import markdown as md
from pipeline.report.curve import Curve
from pipeline.report.curves import Lines, first_of_each, learning_curves
from pipeline.report.detectors import DetectionInputs, shown_ap

AP, AP50 = "val/ap", "val/ap50"
LINES = Lines(AP, AP50, "AP50", "AP on validation images (%)")


def detector_curves(inputs: DetectionInputs) -> list[md.Block]:
    """The figure, drawn like Fig. 6; a sentence where no run recorded AP."""
    shown = [curve for curve in inputs.curves if curve.series(AP)]
    if not shown:
        return [md.paragraph("No learning curves: no run has recorded AP on validation images.")]
    best = featured(shown)
    caption = "AP on validation images against steps (solid) and AP50 (dashed), a colour for each depth."
    if others := len(shown) - len(best):
        caption += (
            f" Bold is the run of each net that ends highest; {md.plural(others, 'other run')} as thin curves of AP."
        )
    ends = ", ".join(f"{curve.net.model.net.name} ends at {shown_ap(_end(curve))}" for curve in best)
    figure = learning_curves(shown, best, inputs.depths, LINES)
    return [md.Figure("curves", caption, f"Learning curves: {ends}", figure)]


def featured(curves: Sequence[Curve]) -> list[Curve]:
    """For each net the curve that ends with the highest AP, see `first_of_each`."""
    return first_of_each((curve for curve in curves if curve.series(AP)), lambda curve: -_end(curve))


def _end(curve: Curve) -> float:
    return curve.series(AP)[-1][1]
