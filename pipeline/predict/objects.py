"""From image files to the objects in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import Config
from pipeline.data.boxes import SIDES
from pipeline.errors import printable
from pipeline.predict.answers import DIGITS, readable
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

    def as_json(self) -> dict[str, Any]:
        return {"objects": [{"class": each.name, "score": each.score, "box": each.box} for each in self.objects]}

    def as_csv(self) -> list[dict[str, Any]]:
        """An image without objects has one row, in which all is empty."""
        rows = [
            {"object": at, "class": each.name, "score": each.score, **dict(zip(SIDES, each.box, strict=True))}
            for at, each in enumerate(self.objects, 1)
        ]
        return rows or [dict.fromkeys(("object", "class", "score", *SIDES), "")]

    def as_table(self) -> list[dict[str, Any]]:
        if not self.objects:
            return [row | {"class": "nothing found"} for row in self.as_csv()]
        return [row | {"class": printable(row["class"]), "score": f"{row['score']:.3f}"} for row in self.as_csv()]


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
