"""Images with boxes drawn around their objects."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.atomic import replacing
from pipeline.config import Config
from pipeline.data.orientation import upright
from pipeline.data.readers import decode
from pipeline.errors import PipelineError, printable
from pipeline.predict.objects import ImageObjects
from pipeline.report.theme import DARK, LIGHT

if TYPE_CHECKING:
    from PIL.Image import Image

LEAST_SIDE = 480  # pixels of the longer side of a drawing; smaller images are enlarged
INK = LIGHT.text  # of letters on a colour, and around boxes, so that they stand out from bright images too
COLOURS = DARK.palette  # bright ones, on which INK can be read


class Box(NamedTuple):
    """What is drawn around an object."""

    corners: Sequence[float]  # left, top, right, bottom in pixels of the image
    label: int  # decides the colour; the colours repeat if there are more classes
    text: str  # beside the box; "" for none


def drawn(image: Image, boxes: Sequence[Box]) -> Image:
    """A copy of the image, RGB, with the boxes; images of less than LEAST_SIDE pixels are enlarged by a whole factor.

    Lines and letters grow with the image. Of texts that have no room beside their boxes, the first one stays on top.
    """
    from PIL import ImageDraw, ImageFont
    from PIL.Image import Resampling

    factor = math.ceil(LEAST_SIDE / max(image.size))
    made = image.convert("RGB").resize((image.width * factor, image.height * factor), Resampling.NEAREST)
    longer = max(made.size)
    line, font = max(2, longer // 300), ImageFont.load_default(max(14, longer // 40))
    canvas, plates = ImageDraw.Draw(made), []
    for corners, label, text in reversed(boxes):
        # A pixel in column c covers [c, c + 1], and a line's own pixels belong to the box.
        left, top, right, bottom = (round(corner * factor) for corner in corners)
        frame = (left, top, max(left, right - 1), max(top, bottom - 1))
        canvas.rectangle((frame[0] - 1, frame[1] - 1, frame[2] + 1, frame[3] + 1), outline=INK, width=line + 2)
        canvas.rectangle(frame, outline=COLOURS[label % len(COLOURS)], width=line)
        plates.append((frame, COLOURS[label % len(COLOURS)], text))
    taken: list[tuple[float, ...]] = []
    letters = []
    for frame, colour, text in reversed(plates):
        if text:
            place = _place(frame, canvas.textbbox((0, 0), text, font=font), line, made.size, taken)
            taken.append(place)
            letters.append((place, colour, text))
    for place, colour, text in reversed(letters):
        canvas.rectangle(place, fill=colour)
        canvas.text((place[0] + line, place[1] + line), text, fill=INK, font=font)
    return made


def _place(
    frame: Sequence[int], written: Sequence[float], pad: int, size: tuple[int, int], taken: Sequence[Any]
) -> tuple[float, float, float, float]:
    """The plate of a text: above its box, below it or in it, wherever it lies in the image and on no other plate."""
    width, height = written[2] + 2 * pad, written[3] + 2 * pad
    left = max(0, min(frame[0], size[0] - width))
    tops = (frame[1] - height - 1, frame[3] + 2, frame[1], frame[3] - height)
    places = [(left, top, left + width, top + height) for top in tops if 0 <= top <= size[1] - height]
    free = [place for place in places if not any(_meet(place, other) for other in taken)]
    return (free or places or [(left, 0, left + width, height)])[0]


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def drawing(
    images: Iterable[ImageObjects], files: Sequence[Path], folder: str, config: Config
) -> Iterator[ImageObjects]:
    """`images`, while each one is written to the folder with its objects, as `names` says.

    Raises:
        PipelineError: the folder is a file, or images of `files` lie where drawings would. Nothing has been written then.
    """
    out = Path(folder).expanduser()
    if out.exists() and not out.is_dir():
        raise PipelineError(f"predict.draw={printable(folder)} is a file; name a folder for the drawings")
    targets = {file: out / name for file, name in zip(files, names(files), strict=True)}
    # Even where no image of `files` is replaced, another one can be: a drawing of a.jpg is a.png.
    if {os.path.realpath(file.parent) for file in files} & {os.path.realpath(path.parent) for path in targets.values()}:
        raise PipelineError(
            f"predict.draw={printable(folder)}: drawings would lie among the images and could replace them; name another folder"
        )
    return _written(images, targets, config.data.limits.megapixels)


def names(files: Sequence[Path]) -> list[Path]:
    """Of the drawings: as the files lie below the folder that they share, with the suffix .png in place of their own.

    If two files differ in their suffixes alone, .png follows each file's own suffix.
    """
    whole = [Path(os.path.abspath(file)) for file in files]
    shared = os.path.commonpath([file.parent for file in whole])
    below = [file.relative_to(shared) for file in whole]
    short = [path.with_suffix(".png") for path in below]
    return short if len(set(short)) == len(short) else [path.with_name(f"{path.name}.png") for path in below]


def _written(images: Iterable[ImageObjects], targets: dict[Path, Path], megapixels: float) -> Iterator[ImageObjects]:
    for each in images:
        boxes = [Box(one.box, one.label, f"{printable(one.name)} {one.score:.2f}") for one in each.objects]
        image = drawn(upright(decode(each.file.read_bytes(), megapixels)), boxes)
        with replacing(targets[each.file]) as part:
            image.save(part, "PNG")
        yield each
