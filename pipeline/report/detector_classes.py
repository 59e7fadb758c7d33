"""AP of each class, of the ensemble or of the best detector."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report import markdown as md
from pipeline.report.classes import MOST_CLASSES, by_class
from pipeline.report.detectors import DetectionInputs, shown_ap


def detector_classes(inputs: DetectionInputs) -> list[md.Block]:
    """The figure; classes without an object among the test images are named in its caption."""
    owner, values, overall = _owner(inputs)
    names = inputs.data["classes"]
    rows = [(name, ap) for name, ap in zip(names, values, strict=False) if ap is not None]
    if not rows or overall is None:
        return [md.paragraph("No AP by class: evaluate.json holds none.")]
    rows.sort(key=lambda row: (row[1], row[0]))
    cut = f" The {MOST_CLASSES} classes with the lowest AP of {len(rows)}." if len(rows) > MOST_CLASSES else ""
    without = [name for name, ap in zip(names, values, strict=False) if ap is None]
    absent = f" Without an object among the test images: {', '.join(without)}." if without else ""
    (worst, low), (best, high) = rows[0], rows[-1]
    caption = f"AP of {owner} by class, hardest first.{cut}{absent}"
    alt = f"AP by class, lowest {worst} {shown_ap(low)}, highest {best} {shown_ap(high)}"
    return [md.Figure("classes", caption, alt, by_class(rows[:MOST_CLASSES], overall, "AP on test images", 1))]


def _owner(inputs: DetectionInputs) -> tuple[str, Sequence[float | None], float | None]:
    if ensemble := inputs.ensemble:
        return "the ensemble", ensemble["per_class"], ensemble["scores"]["ap"]
    best = inputs.best
    return (best.name, best.per_class, best.scores["ap"]) if best else ("", (), None)
