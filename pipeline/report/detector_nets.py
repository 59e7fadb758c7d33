"""The evaluated detectors and their ensemble: tables of AP, the figure of its intervals, and the sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.report import markdown as md
from pipeline.report.detectors import DetectionInputs, Detector, ap_interval, ap_of, shown_ap, shown_interval
from pipeline.report.nets import Bar, intervals, selected
from pipeline.report.sweep import trials_table

INTERVAL = "95% interval"
MEANING = (
    "AP is COCO's average precision over ten thresholds of IoU from 0.5 to 0.95, AP50 that at the first of them; on val: AP on "
    "validation images."
)
FURTHER = {"ap75": "AP75", "ap_small": "small", "ap_medium": "medium", "ap_large": "large"}
OVER = (
    "Intervals are bootstraps over test images. Two nets are compared by the interval of the gain, which resamples the images "
    "of both together."
)


def detectors(inputs: DetectionInputs) -> list[md.Block]:
    """Members, ensemble, named run and others: the table, their intervals, and further metrics."""
    if not inputs.detectors:
        return [md.paragraph("No detector was evaluated.")]
    return [_table(inputs), _figure(inputs), _further(inputs)]


def _table(inputs: DetectionInputs) -> md.Block:
    header = ["net", "AP", INTERVAL, "AP50", INTERVAL, "on val", "lr", "seed", "steps", "parameters"]
    rows = [
        [
            _row_name(each, inputs),
            *_scores(each.scores, each.net.ci95, each.net.ci95_err5),
            shown_ap(ap_of(each.net.val_err1)),
            md.number(each.net.lr),
            md.number(each.net.seed),
            md.count(each.net.steps or None),
            md.short(each.net.params),
        ]
        for each in inputs.detectors
    ]
    caption = f"Detectors by the net within; {MEANING} {OVER}"
    if ensemble := inputs.ensemble:
        cells = _scores(ensemble["scores"], ensemble["ci95"], ensemble["ci95_err5"])
        rows.append([_ensemble_name(ensemble), *cells, shown_ap(ap_of(ensemble["val_err1"])), "", "", "", ""])
        caption += f" Members were {selected(ensemble['selection'])}."
    return md.table(header, rows, "l" + "r" * (len(header) - 1), caption, {len(rows) - 1} if inputs.ensemble else ())


def _scores(
    scores: Mapping[str, float | None], of_ap: Sequence[float] | None, of_ap50: Sequence[float] | None
) -> list[str]:
    """AP and AP50 with their intervals, which are given as those of errors."""
    return [
        *(shown_ap(scores["ap"]), shown_interval(ap_interval(of_ap))),
        *(shown_ap(scores["ap50"]), shown_interval(ap_interval(of_ap50))),
    ]


def _ensemble_name(ensemble: Mapping[str, Any]) -> str:
    return f"ensemble of {ensemble['size']}"


def _row_name(detector: Detector, inputs: DetectionInputs) -> str:
    """The net within, with its head where the detectors have several."""
    heads = {(each.net.model.family, each.net.model.context) for each in inputs.detectors}
    run = inputs.evaluation.get("run")
    name = detector.name if len(heads) == 1 else detector.net.name
    return name + (" (named run)" if run and run["key"] == detector.net.key else "")


def _figure(inputs: DetectionInputs) -> md.Figure:
    bars = []
    for each in sorted(inputs.detectors, key=lambda each: each.net.test_err1 or 0.0):
        ap = ap_of(each.net.test_err1) or 0.0
        bounds = ap_interval(each.net.ci95) or (ap, ap)
        marker = "o" if each.net.model.residual else "s"
        label = f"{_row_name(each, inputs)}, lr {md.number(each.net.lr)}, seed {md.number(each.net.seed)}"
        bars.append(Bar(label, ap, bounds, each.net.model.depth, marker))
    shade = ""
    if ensemble := inputs.ensemble:
        ap = 1 - ensemble["test_err1"]
        bars.insert(0, Bar(_ensemble_name(ensemble), ap, ap_interval(ensemble["ci95"]) or (ap, ap)))
        shade = "; the ensemble's is shaded"
    caption = f"AP with its 95% interval over {md.count(inputs.num_test)} images{shade}. Circles: residual nets; squares: others."
    alt = "AP: " + ", ".join(f"{bar.label} {shown_ap(bar.error)}" for bar in bars)
    return md.Figure("detectors", caption, alt, intervals(bars, inputs.depths, "AP on test images"))


def _further(inputs: DetectionInputs) -> md.Block:
    measured = [(_row_name(each, inputs), each.scores, each.voc, each.voc_ci95) for each in inputs.detectors]
    if ensemble := inputs.ensemble:
        measured.append((_ensemble_name(ensemble), *(ensemble[key] for key in ("scores", "voc", "voc_ci95"))))
    rows = [
        [
            name,
            *(shown_ap(scores[key]) for key in FURTHER),
            *(cell for points in voc for cell in (shown_ap(voc[points]), shown_interval(ci95[points]))),
        ]
        for name, scores, voc, ci95 in measured
    ]
    header = ["net", *FURTHER.values(), "VOC 2007", INTERVAL, "from 2010", INTERVAL]
    caption = (
        "AP at an IoU of 0.75; AP of objects whose boxes in the stored images have less than 32x32, less than 96x96, and more "
        "pixels (COCO goes by outlines in the published images); PASCAL VOC's mean AP at an IoU of 0.5: by eleven recalls as "
        "in 2007, and by the area below the curve."
    )
    return md.fold(
        "At an IoU of 0.75, by size, and by PASCAL VOC's metric", md.table(header, rows, "l" + "r" * 8, caption)
    )


def detector_sweep(inputs: DetectionInputs) -> list[md.Block]:
    """The trials by AP on validation images; a sentence where there was no sweep."""
    if not inputs.trials:
        return [md.paragraph("No sweep: leaderboard.json was not among the inputs, or it holds no trial.")]
    shown: Callable[[float | None], str] = lambda error: shown_ap(ap_of(error))  # noqa: E731
    return [trials_table(inputs.trials, "validation AP", shown)]
