"""Test images with their objects and what the ensemble found there: as drawings in SVG, and some of them as one figure.

Objects have dashed boxes and their class on white below; detections have solid boxes, class and score on black above. Both
have lines of black and white, so that they are seen on any image. A drawing is SIDE units wide and stands about as many
pixels wide on a phone and on a wide screen alike, so that its letters keep their size.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.detection import SURE
from pipeline.report import markdown as md
from pipeline.report.detectors import DetectionInputs
from pipeline.report.lettering import lettering, shorten
from pipeline.report.theme import Draw, Theme, new_figure

SIDE = 320  # units, of which one is about a pixel of the screen
LETTERS = 12  # units of height
ADVANCE = 0.62 * LETTERS  # of one letter, on average, of sans-serif fonts
STRIP = 20  # units below the image, for its title
MOST_LETTERS = 14  # of a class in a label
BLACK, WHITE = "#14171c", "#ffffff"
DASHES, DOTS = "6 4", "1.5 4"
SHEET, COLUMNS = 6, 3  # images of the figure, and of a row of it
LINE = 0.065  # of a line of letters in the height of such an image


def scenes(inputs: DetectionInputs) -> list[md.Block]:
    """The gallery; a sentence where no image was kept."""
    if not inputs.scenes:
        return [md.paragraph("No detections to show: no test image was kept.")]
    classes = inputs.data["classes"]
    drawings = [
        md.Drawing(f"scene-{one['index']}", _description(one, classes), drawn(one, classes)) for one in inputs.scenes
    ]
    caption = (
        "Test images. Dashed boxes with white labels at their lower edge are the objects; solid boxes with black labels at "
        f"their upper edge are what the ensemble found, with its score. What scores less than {SURE} counts for AP and is not drawn."
    )
    if any(each["ignored"] for one in inputs.scenes for each in one["truth"]):
        caption += " Dotted: objects that do not count, neither as missed nor as wrong if found."
    return [md.Gallery(caption, drawings)]


def _description(scene: Mapping[str, Any], classes: Sequence[str]) -> str:
    objects = ", ".join(classes[each["label"]] for each in scene["truth"]) or "none"
    labels = (
        ", ".join(f"{classes[each['label']]} ({md.percent(each['score'], 0)})" for each in scene["found"]) or "none"
    )
    return f"Test image {scene['index']}; objects: {objects}; found: {labels}"


def sheet(inputs: DetectionInputs) -> list[md.Figure]:
    """A figure of SHEET images from all over the gallery, for pages of PNGs; none where no image was kept."""
    if not inputs.scenes:
        return []
    shown, classes = inputs.scenes[:: math.ceil(len(inputs.scenes) / SHEET)], inputs.data["classes"]
    caption = "Test images. Dashed boxes are the objects, solid boxes what the ensemble found, with its score."
    return [
        md.Figure("detections", caption, "; ".join(_description(one, classes) for one in shown), panels(shown, classes))
    ]


def panels(shown: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> Draw:
    """A panel for each image, without smoothing."""

    def draw(theme: Theme) -> Any:
        from PIL import Image

        columns = 1 if theme.narrow else min(COLUMNS, len(shown))
        rows = math.ceil(len(shown) / columns)
        figure = new_figure(theme, 2.2 * columns, 2.2 * rows, 3.2 * rows)
        labels, options = lettering(classes, MOST_LETTERS)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, one in zip(grid, shown, strict=False):
            picture, (width, height) = Image.open(io.BytesIO(base64.b64decode(one["png"]))), one["size"]
            grey = "gray" if picture.mode == "L" else None
            axes.imshow(picture, cmap=grey, vmin=0, vmax=255, extent=(0, width, height, 0), interpolation="nearest")
            axes.autoscale(False)
            for each in one["truth"]:
                _frame(axes, each["corners"], (BLACK, WHITE), ":" if each["ignored"] else "--")
                _name(axes, each["corners"], (BLACK, WHITE), labels[each["label"]], options)
            for each in sorted(one["found"], key=lambda each: each["score"]):
                text = f"{labels[each['label']]} {100 * each['score']:.0f}%"
                _frame(axes, each["corners"], (WHITE, BLACK), "-")
                _name(axes, each["corners"], (WHITE, BLACK), text, options, above=True)
        return figure

    return draw


def _frame(axes: Any, corners: Sequence[float], inks: tuple[str, str], lines: str) -> None:
    """A box in the second ink on the first."""
    left, top, right, bottom = corners
    xs, ys = (left, right, right, left, left), (top, top, bottom, bottom, top)
    axes.plot(xs, ys, color=inks[0], linewidth=2.2)
    axes.plot(xs, ys, color=inks[1], linewidth=1.1, linestyle=lines)


def _name(
    axes: Any,
    corners: Sequence[float],
    inks: tuple[str, str],
    text: str,
    options: Mapping[str, Any],
    above: bool = False,
) -> None:
    """The first ink on the second, above or below a box, and within the image."""
    left, top, right, bottom = corners
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    x, side = (max(left, 0), "left") if left + right < width else (min(right, width), "right")
    y, end = (max(top, LINE * height), "bottom") if above else (min(bottom, (1 - LINE) * height), "top")
    ground = {"facecolor": inks[1], "edgecolor": inks[0], "linewidth": 0.4, "pad": 1}
    axes.text(x, y, text, color=inks[0], fontsize=6.5, ha=side, va=end, bbox=ground, **options)


def drawn(scene: Mapping[str, Any], classes: Sequence[str]) -> str:
    """An SVG that holds the image, its boxes and its title, on one line and without references to anything outside."""
    width, height = scene["size"]
    scale = SIDE / width
    high = scale * height
    objects = [_object(each, scale, high, classes) for each in scene["truth"]]
    detections = [_detection(each, scale, classes) for each in sorted(scene["found"], key=lambda each: each["score"])]
    boxes, labels = zip(("", ""), *objects, *detections, strict=True)
    title = f"{md.plural(len(scene['truth']), 'object')}, {len(scene['found'])} found"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {_n(high + STRIP)}" role="img" '
        f'aria-label="{html.escape(_description(scene, classes))}" font-family="sans-serif" font-size="{LETTERS}">'
        f'<image href="data:image/png;base64,{html.escape(scene["png"])}" width="{SIDE}" height="{_n(high)}" '
        f'preserveAspectRatio="none"/>{"".join(boxes + labels)}'
        # Grey letters are seen on light and dark pages, and where the file is opened alone.
        f'<text x="0" y="{_n(high + STRIP - 5)}" fill="#767d87">Image {scene["index"]}: {title}</text></svg>'
    )


def _object(each: Mapping[str, Any], scale: float, high: float, classes: Sequence[str]) -> tuple[str, str]:
    """Box and label; labels lie above all boxes."""
    left, top, right, bottom = (scale * corner for corner in each["corners"])
    name = shorten(classes[each["label"]], MOST_LETTERS)
    dashes = DOTS if each["ignored"] else DASHES
    lines = _box(left, top, right, bottom, BLACK, 3.5, "") + _box(left, top, right, bottom, WHITE, 2, dashes)
    return lines, _label(name, left, min(bottom, high - LETTERS - 4), WHITE, BLACK)


def _detection(each: Mapping[str, Any], scale: float, classes: Sequence[str]) -> tuple[str, str]:
    left, top, right, bottom = (scale * corner for corner in each["corners"])
    name = f"{shorten(classes[each['label']], MOST_LETTERS)} {100 * each['score']:.0f}%"
    lines = _box(left, top, right, bottom, WHITE, 4.5, "") + _box(left, top, right, bottom, BLACK, 2, "")
    return lines, _label(name, left, max(top - LETTERS - 4, 0), BLACK, WHITE)


def _box(left: float, top: float, right: float, bottom: float, colour: str, width: float, dashes: str) -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<rect x="{_n(left)}" y="{_n(top)}" width="{_n(right - left)}" height="{_n(bottom - top)}" fill="none" '
        f'stroke="{colour}" stroke-width="{width:g}"{dashed}/>'
    )


def _label(text: str, left: float, top: float, ground: str, ink: str) -> str:
    """Within the drawing, whatever box it belongs to."""
    wide = ADVANCE * len(text) + 6
    left = max(0.0, min(left, SIDE - wide))
    return (
        f'<rect x="{_n(left)}" y="{_n(top)}" width="{_n(wide)}" height="{LETTERS + 4}" fill="{ground}" stroke="{ink}" '
        f'stroke-width="0.5"/><text x="{_n(left + wide / 2)}" y="{_n(top + LETTERS)}" text-anchor="middle" '
        f'fill="{ink}">{html.escape(text)}</text>'
    )


def _n(value: float) -> str:
    return f"{value:.1f}"
