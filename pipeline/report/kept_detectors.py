"""Published experiments with object detectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.report import markdown as md
from pipeline.report.check_detectors import assess_detectors
from pipeline.report.curve import Curve
from pipeline.report.detection import GAINS
from pipeline.report.detector_curves import AP, AP50, detector_curves, featured
from pipeline.report.detector_gain import PAPERS_SHARE, detector_gain
from pipeline.report.detector_nets import detectors
from pipeline.report.detectors import DetectionInputs, ap_interval, ap_of, shown_ap, shown_interval, swap
from pipeline.report.kept import Result, Task, kept_curve, written
from pipeline.report.scenes import sheet


def _read(result: Result) -> DetectionInputs:
    return DetectionInputs(
        curves=[Curve.from_json(curve) for curve in result["curves"]],
        **{key: result[key] for key in ("data", "evaluation", "leaderboard", "provenance")},
    )


def _keep(inputs: DetectionInputs) -> dict[str, Any]:
    drawn = featured(inputs.curves)
    return {"curves": [kept_curve(curve, {metric: curve.series(metric) for metric in (AP, AP50)}) for curve in drawn]}


def _figures(inputs: DetectionInputs) -> Iterable[md.Figure]:
    blocks = [*detector_gain(inputs), *detector_curves(inputs), *sheet(inputs)]
    return [block for block in blocks if isinstance(block, md.Figure)]


def _tables(inputs: DetectionInputs) -> list[md.Markdown]:
    return written([*detectors(inputs), *detector_gain(inputs)])


def _measured(inputs: DetectionInputs, errors: Mapping[str, Any]) -> str:
    return f"{shown_ap(ap_of(errors['test_err1']))} ({shown_interval(ap_interval(errors['ci95']))})"


def _gain(inputs: DetectionInputs) -> str:
    phrases = [
        f"{swap(gain, 'for')}: {md.signed(100 * relative['estimate'])}% ({md.interval(relative['ci95'])})"
        for gain in inputs.gains
        if (relative := gain["relative"])
    ]
    return "; ".join(phrases) or "–"


DETECTORS = Task(
    read=_read,
    keep=_keep,
    assess=assess_detectors,
    rules=GAINS,
    figures=_figures,
    pictures={
        "gain": "relative gain in AP",
        "curves": "learning curves",
        "detections": "objects (dashed) and detections (solid) in test images",
    },
    limits={"detections": 150_000},  # photographs are large
    tables=_tables,
    header=("detectors", "test AP"),
    named=lambda net: net.model.net.name,
    measured=_measured,
    more={f"relative gain (the paper: {PAPERS_SHARE:.0%})": _gain},
)
