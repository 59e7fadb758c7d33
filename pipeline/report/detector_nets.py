"""The evaluated detectors and their ensemble: a table of AP, the figure of its intervals, VOC's mAP, and the sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.report import markdown as md
from pipeline.report.detectors import DetectionInputs, Detector, Interval, ap_interval, ap_of
from pipeline.report.nets import Bar, intervals
from pipeline.report.sweep import trials_table

SCORES = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "small", "ap_medium": "medium", "ap_large": "large"}
MEANING = (
    "AP is COCO's average precision over ten thresholds of IoU from 0.5 to 0.95, AP50 and AP75 that at one of them, and "
    "small, medium and large that of objects below 32x32, below 96x96, and of more pixels; on val: AP on validation images."
)
OVER = (
    "Intervals are bootstraps over test images. Two nets are compared by the interval of the gain, which resamples the images "
    "of both together."
)


def shown_ap(ap: float | None) -> str:
    """In percent, with one digit as the paper prints it."""
    return md.percent(ap, 1)


def shown_interval(bounds: Interval | None) -> str:
    return "–" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}%"


def detectors(inputs: DetectionInputs) -> list[md.Block]:
    """Members, ensemble, named run and others: the table, their intervals, and VOC's metric."""
    if not inputs.detectors:
        return [md.paragraph("No detector was evaluated.")]
    return [_table(inputs), _figure(inputs), _voc(inputs)]


def _table(inputs: DetectionInputs) -> md.Block:
    ap, *others = SCORES
    header = [
        "net",
        SCORES[ap],
        "95% interval",
        *(SCORES[key] for key in others),
        "on val",
        "lr",
        "seed",
        "steps",
        "parameters",
    ]
    rows = [
        [
            _row_name(each, inputs),
            shown_ap(each.scores[ap]),
            shown_interval(ap_interval(each.net.ci95)),
            *(shown_ap(each.scores[key]) for key in others),
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
        first, *rest = (shown_ap(ensemble["scores"][key]) for key in SCORES)
        bounds, validation = shown_interval(ap_interval(ensemble["ci95"])), shown_ap(ap_of(ensemble["val_err1"]))
        rows.append([_ensemble_name(ensemble), first, bounds, *rest, validation, "", "", "", ""])
        caption += f" Members were selected by {ensemble['selection'].replace('_', ' ')}."
    return md.table(header, rows, "l" + "r" * (len(header) - 1), caption, {len(rows) - 1} if inputs.ensemble else ())


def _ensemble_name(ensemble: Mapping[str, Any]) -> str:
    return f"ensemble of {ensemble['size']}"


def _row_name(detector: Detector, inputs: DetectionInputs) -> str:
    run = inputs.evaluation.get("run")
    return detector.name + (" (named run)" if run and run["key"] == detector.net.key else "")


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


def _voc(inputs: DetectionInputs) -> md.Block:
    told = [(_row_name(each, inputs), each.voc) for each in inputs.detectors]
    told += [(_ensemble_name(inputs.ensemble), inputs.ensemble["voc"])] if inputs.ensemble else []
    rows = [[name, shown_ap(voc["07"]), shown_ap(voc["area"])] for name, voc in told]
    caption = "PASCAL VOC's mean AP at an IoU of 0.5: by eleven recalls as in 2007, and by the area below the curve."
    return md.fold("PASCAL VOC's metric", md.table(["net", "2007", "from 2010"], rows, "lrr", caption))


def detector_sweep(inputs: DetectionInputs) -> list[md.Block]:
    """The trials by AP on validation images; a sentence where there was no sweep."""
    if not inputs.trials:
        return [md.paragraph("No sweep: leaderboard.json was not among the inputs, or it holds no trial.")]
    shown: Callable[[float | None], str] = lambda error: shown_ap(ap_of(error))  # noqa: E731
    return [trials_table(inputs.trials, "validation AP", shown)]
