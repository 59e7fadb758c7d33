"""AP of each class, of the ensemble or of the best detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.report import markdown as md
from pipeline.report.classes import MOST_CLASSES
from pipeline.report.detector_nets import shown_ap
from pipeline.report.detectors import DetectionInputs
from pipeline.report.lettering import lettering
from pipeline.report.theme import Draw, Theme, new_figure


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
    return [md.Figure("classes", caption, alt, by_class(rows[:MOST_CLASSES], overall))]


def _owner(inputs: DetectionInputs) -> tuple[str, Sequence[float | None], float | None]:
    if ensemble := inputs.ensemble:
        return "the ensemble", ensemble["per_class"], ensemble["scores"]["ap"]
    best = inputs.best
    return (best.name, best.per_class, best.scores["ap"]) if best else ("", (), None)


def by_class(rows: Sequence[tuple[str, float]], overall: float) -> Draw:
    """A bar for each class, first on top, and the AP over all classes as a line; fractions."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(theme, 8, 1.1 + 0.28 * len(rows))
        axes = figure.add_subplot()
        at = range(len(rows))
        axes.barh(at, [100 * ap for _, ap in rows], height=0.66, color=theme.tint(theme.muted, 0.5))
        for y, (_, ap) in enumerate(rows):
            axes.annotate(
                f"{100 * ap:.1f}", (0, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8.5
            )
        axes.axvline(100 * overall, color=theme.text, linewidth=1.6, linestyle=(0, (4, 2)))
        axes.annotate(
            f"all classes {100 * overall:.1f}", (100 * overall, 1), xycoords=("data", "axes fraction"), xytext=(0, 4),
            textcoords="offset points", ha="center", color=theme.text, fontsize=9, fontweight="bold",
        )  # fmt: skip
        labels, options = lettering([name for name, _ in rows], 12 if theme.narrow else 24)
        axes.set_yticks(at, labels, color=theme.text, **options)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, 105 * max([overall, *(ap for _, ap in rows)], default=1.0) or 1.0)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("AP on test images (%)")
        return figure

    return draw
