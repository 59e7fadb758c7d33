"""What readers of annotated objects share: from the objects that annotations name to records with boxes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.archives import Entry
from pipeline.data.boxes import Boxes
from pipeline.data.records import Account, Published, Record
from pipeline.data.roles import ROLES, divide
from pipeline.errors import PipelineError, printable

FEWEST = 3  # images of a data set without a published test set


class Thing(NamedTuple):
    """An object as annotated."""

    cls: str
    corners: tuple[float, float, float, float]  # pixels: left, top, right, bottom
    ignored: bool
    what: str  # names it in errors, such as "annotation 17"


@dataclass
class Picture:
    """An image with its objects."""

    role: str  # train, test or val
    image: Entry
    size: tuple[int, int]  # width and height in pixels, as annotated
    things: list[Thing] = field(default_factory=list)


def published(
    path: Path, pictures: list[Picture], classes: Iterable[str], num_test: int, account: Account
) -> Published:
    """The data set. Its classes are those with a box in train, in the order of `classes`.

    Roles mean what they mean for class folders, see `roles.assign`. A box that sticks out of its image is cut off there, and
    one without area, of which COCO has a few, is left out; both are counted.

    Args:
        path: named in errors.
        num_test: images to draw where no test set is published, 0 for one in TESTED.
        account: of the files left out, to which boxes are added.
    Raises:
        PipelineError: no box in train, a class that has none there, an image that is listed twice, a box that lies outside of
            its image, too few images; as `divide`.
    """
    shown = {thing.cls for picture in pictures if picture.role == "train" for thing in picture.things}
    labels = {cls: label for label, cls in enumerate(cls for cls in classes if cls in shown)}
    if not labels:
        raise PipelineError(f"{path} has no box in its training images; detectors learn from boxes")
    records: dict[str, list[Record]] = {name: [] for name in ROLES}
    split_of: dict[Entry, str] = {}
    for picture in pictures:
        if other := split_of.get(picture.image):
            what = f"is an image of {other} and of {picture.role}; leave it in one of them"
            if other == picture.role:
                what = f"is listed twice in the annotations of {other}; merge its entries"
            raise PipelineError(f"{printable(picture.image.name)} in {path} {what} and fetch again")
        split_of[picture.image] = picture.role
        boxes = _boxes(path, picture, labels, account)
        records[picture.role].append(Record(picture.image.name, 0, picture.image, boxes=boxes))
    if not records["test"] and not records["val"] and len(records["train"]) < FEWEST:
        raise PipelineError(
            f"{path} has {len(records['train'])} images; it takes {FEWEST}, one to train, to validate and to test"
        )
    train, test, notes = divide(path, records, num_test, list(labels))
    if unused := [cls for cls in classes if cls not in labels]:
        named = ", ".join(printable(cls, 60) for cls in unused[:5])
        notes.append(f"{len(unused)} classes have no box in train and are left out, such as {named}")
    return Published(list(labels), train, test, account.left_out(), notes)


def _boxes(path: Path, picture: Picture, labels: dict[str, int], account: Account) -> Boxes:
    width, height = picture.size
    rows: list[tuple[tuple[float, ...], int, bool]] = []
    for cls, corners, ignored, what in picture.things:
        name = picture.image.name
        if cls not in labels:
            raise PipelineError(
                f"{what} of {printable(name)} in {path} is of class {printable(cls)}, which has no box in train; remove it, or add "
                "training images of that class"
            )
        left, top, right, bottom = corners
        if not np.isfinite(corners).all() or left >= width or top >= height or right <= 0 or bottom <= 0:
            shown = ", ".join(f"{side:g}" for side in corners)
            raise PipelineError(
                f"{what} of {printable(name)} in {path} lies outside of its {width}x{height} pixels (left, top, right, bottom: "
                f"{shown}); mend or remove it"
            )
        if right <= left or bottom <= top:
            account.add("boxes without area", f"{what} of {name}")
            continue
        inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
        if inside != corners:
            account.add("parts of boxes outside of their images", f"{what} of {name}")
        rows.append((inside, labels[cls], ignored))
    return Boxes.make(picture.size, rows)
