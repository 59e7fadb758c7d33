"""The surest mistakes as pictures, and the reliability diagram: how often the ensemble is right when it is how sure."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report import markdown as md
from pipeline.report.inputs import ReportInputs
from pipeline.report.lettering import lettering
from pipeline.report.theme import Draw, Theme, new_figure

COLUMNS, NARROW_COLUMNS = 6, 3  # pictures in a row


def mistakes(inputs: ReportInputs) -> list[md.Block]:
    examples = inputs.mistakes
    if not examples:
        return [md.paragraph("No mistakes to show: no test image was named wrongly, or none was kept.")]
    caption = (
        f"The {md.plural(len(examples), 'test image')} that the ensemble names wrongly while it is surest: the true class, the "
        "class that it names, and the probability that it gives to it."
    )
    alt = "; ".join(
        f"{one['actual']} taken for {one['predicted']}, {md.percent(one['confidence'], 0)}" for one in examples
    )
    return [md.Figure("mistakes", caption, f"Surest mistakes: {alt}", gallery(examples))]


def gallery(examples: Sequence[Mapping[str, Any]]) -> Draw:
    """A picture for each mistake, surest first, without smoothing: pixels are what the nets saw."""

    def draw(theme: Theme) -> Any:
        from PIL import Image

        columns = NARROW_COLUMNS if theme.narrow else min(COLUMNS, len(examples))
        rows = math.ceil(len(examples) / columns)
        figure = new_figure(theme, 1.5 * columns, 1.85 * rows, 1.65 * rows)
        most = 9 if theme.narrow else 12
        names = list(dict.fromkeys(one[key] for one in examples for key in ("actual", "predicted")))
        labels, options = lettering(names, most)
        shown = dict(zip(names, labels, strict=True))
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, one in zip(grid, examples, strict=False):
            picture = Image.open(io.BytesIO(base64.b64decode(one["png"])))
            axes.imshow(picture, cmap="gray" if picture.mode == "L" else None, interpolation="nearest")
            title = f"{shown[one['actual']]}, not\n{shown[one['predicted']]} ({100 * one['confidence']:.0f}%)"
            axes.set_title(title, fontsize=8.5, fontweight="normal", **options)
        return figure

    return draw


def confidence(inputs: ReportInputs) -> list[md.Block]:
    calibration = inputs.evaluation.get("calibration")
    if not calibration:
        return [md.paragraph("No reliability diagram: evaluate.json holds no confidence.")]
    owner = "the ensemble" if inputs.ensemble else "the named run"
    caption = (
        f"Reliability of {owner}: how often it is right, with 95% intervals, among images on which it is equally sure. On the "
        "dashed line, confidence could be taken at its word; below it, it is too sure. Below: the share of images. On "
        f"average, confidence and accuracy lie {md.percent(calibration['expected_error'], 1)} apart (expected calibration error)."
    )
    alt = "; ".join(
        f"sure {md.percent(b['confidence'], 0)}, right {md.percent(b['accuracy'], 0)}" for b in calibration["bins"]
    )
    return [md.Figure("reliability", caption, f"Reliability: {alt}", reliability(calibration["bins"]))]


def reliability(bins: Sequence[Mapping[str, Any]]) -> Draw:
    """Accuracy against confidence, both in percent, over a strip with the share of images in each bin."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(theme, 6, 5.4, 4.4)
        axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        sure = [100 * one["confidence"] for one in bins]
        axes.plot([0, 100], [0, 100], color=theme.muted, linewidth=1.2, linestyle=(0, (4, 2)))
        for x, one in zip(sure, bins, strict=True):
            axes.plot([x, x], [100 * end for end in one["ci95"]], color=theme.text, linewidth=1.2)
        axes.plot(sure, [100 * one["accuracy"] for one in bins], "o-", color=theme.text, linewidth=2, markersize=6)
        axes.set_ylim(0, 102)
        axes.set_ylabel("right (%)")
        images = sum(one["count"] for one in bins)
        strip.bar(sure, [100 * one["count"] / images for one in bins], width=4, color=theme.muted)
        strip.set_ylabel("images (%)")
        strip.set_xlabel("confidence (%)")
        strip.set_xlim(0, 102)
        return figure

    return draw
