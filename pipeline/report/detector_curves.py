"""Learning curves of detectors: AP and AP50 on validation images against steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.report import markdown as md
from pipeline.report.curves import DASHED, KINDS
from pipeline.report.detector_nets import shown_ap
from pipeline.report.detectors import DetectionInputs
from pipeline.report.inputs import Curve, kind_of
from pipeline.report.theme import Draw, Theme, new_figure, panels

AP, AP50 = "val/ap", "val/ap50"


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
    return [md.Figure("curves", caption, f"Learning curves: {ends}", learning_curves(shown, best, inputs.depths))]


def featured(curves: Sequence[Curve]) -> list[Curve]:
    """For each net the curve that ends with the highest AP: plain nets, residual nets, others, by depth."""
    best: dict[tuple[int, int, str], Curve] = {}
    for curve in curves:
        slot = (KINDS.index(kind_of(curve.net)), curve.net.model.depth, curve.net.name)
        if slot not in best or _end(curve) > _end(best[slot]):
            best[slot] = curve
    return [best[slot] for slot in sorted(best)]


def _end(curve: Curve) -> float:
    return curve.series(AP)[-1][1]


def learning_curves(curves: Sequence[Curve], best: Sequence[Curve], depths: Sequence[int]) -> Draw:
    """Panels for plain nets, residual nets and others, with one axis of AP."""
    kinds = [kind for kind in KINDS if any(kind_of(curve.net) == kind for curve in best)]

    def draw(theme: Theme) -> Any:
        figure = new_figure(theme, 8 if len(kinds) == 1 else 10, 4.2, 3.2 * len(kinds))
        axes_of = panels(theme, figure, len(kinds), sharey=True)
        for axes, kind in zip(axes_of, kinds, strict=True):
            for curve in (curve for curve in curves if kind_of(curve.net) == kind):
                colour = theme.colour(curve.net.model.depth, depths)
                if any(curve is each for each in best):
                    _line(axes, curve.series(AP), color=colour, linewidth=2.2, label=curve.net.model.net.name)
                    _line(axes, curve.series(AP50), color=colour, linewidth=1.1, linestyle=DASHED)
                else:
                    _line(axes, curve.series(AP), color=colour, linewidth=0.7, alpha=0.45)
            axes.plot([], [], color=theme.muted, linewidth=1.1, linestyle=DASHED, label="AP50")
            axes.set_title(kind, loc="left")
            axes.set_xlim(left=0)
            axes.xaxis.set_major_formatter(lambda step, _: md.count(step))
            axes.set_xlabel("steps")
            axes.legend(loc="best")
        axes_of[0].set_ylim(bottom=0)  # of all: they share it
        for axes in axes_of if theme.narrow else axes_of[:1]:
            axes.set_ylabel("AP on validation images (%)")
        return figure

    return draw


def _line(axes: Any, values: Sequence[tuple[float, float]], **how: Any) -> None:
    # A run that was validated once has a point.
    marker = "o" if len(values) == 1 else ""
    axes.plot([step for step, _ in values], [100 * value for _, value in values], marker=marker, **how)
