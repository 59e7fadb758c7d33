"""From image files to the objects in them, and how they are written."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipeline.config import Config
from pipeline.data.boxes import SIDES
from pipeline.errors import printable
from pipeline.predict.answers import DIGITS, LONGEST, readable
from pipeline.predict.images import scene_of_file
from pipeline.predict.source import Finder


class Object(NamedTuple):
    label: int  # index of the class
    name: str  # of the class
    score: float
    box: tuple[int, int, int, int]  # left, top, right, bottom in pixels of the file's image


class ImageObjects(NamedTuple):
    """The objects in an image, the most certain first."""

    file: Path
    objects: list[Object]


def objects(files: Sequence[Path], finder: Finder, config: Config) -> Iterator[ImageObjects]:
    """Those whose score is predict.score or more, in the files' order; see `readable` for files that cannot be read.

    Images go through the net one by one, so that an answer does not depend on the other files.
    """
    read = partial(scene_of_file, resize=finder.resize, megapixels=config.data.limits.megapixels)
    for ((file, scene),) in readable(files, read, finder.title, config, 1):
        width, height = scene.size
        detections = finder.detect(scene.image).resized(width / scene.image.shape[2], height / scene.image.shape[1])
        rows = zip(
            detections.labels.tolist(),
            detections.scores.tolist(),
            detections.corners.round().astype(int).tolist(),
            strict=True,
        )
        shown = [
            Object(label, finder.classes[label], round(score, DIGITS), tuple(box))
            for label, score, box in rows
            if score >= config.predict.score
        ]
        yield ImageObjects(file, shown)


def write_objects(images: Iterable[ImageObjects], output: str, title: str) -> int:
    """Prints objects as predict.output says; returns the number of images. CSV and JSON come image by image."""
    if output == "csv":
        return _csv(images)
    return _json(images) if output == "json" else _table(images, title)


def _json(images: Iterable[ImageObjects]) -> int:
    count = 0
    for count, (file, shown) in enumerate(images, 1):  # noqa: B007 (the last one is returned)
        entries = [{"class": each.name, "score": each.score, "box": each.box} for each in shown]
        print(json.dumps({"image": str(file), "objects": entries}))
    return count


def _csv(images: Iterable[ImageObjects]) -> int:
    """An image without objects has one row, in which all but its name is empty."""
    writer, count = csv.writer(sys.stdout, lineterminator="\n"), 0
    for count, (file, shown) in enumerate(images, 1):
        if count == 1:
            writer.writerow(["image", "object", "class", "score", *SIDES])
        name = printable(file, LONGEST)
        rows = [[name, at, each.name, each.score, *each.box] for at, each in enumerate(shown, 1)]
        writer.writerows(rows or [[name, *[""] * (3 + len(SIDES))]])
    return count


def _table(images: Iterable[ImageObjects], title: str) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table, count = Table(title=title), 0
    table.add_column("image", overflow="fold")
    table.add_column("object", justify="right")
    table.add_column("class")
    for name in ("score", *SIDES):
        table.add_column(name, justify="right")
    for count, (file, shown) in enumerate(images, 1):  # noqa: B007 (the last one is returned)
        rows = [
            (f"{at}", printable(each.name), f"{each.score:.3f}", *map(str, each.box))
            for at, each in enumerate(shown, 1)
        ]
        for row in rows or [("", "nothing found", *("",) * (1 + len(SIDES)))]:
            table.add_row(*map(Text, (printable(file, LONGEST), *row)))
    if count:
        Console().print(table)
    return count
