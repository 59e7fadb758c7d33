"""Which published images are trained on, validated on and tested: by the names of their splits, else by seed."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.archives import Entry
from pipeline.data.records import Account, Published, Record, composed, require_distinct, require_printed
from pipeline.data.splits import stratified
from pipeline.errors import PipelineError, printable

ROLES = ("train", "test", "val")
_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation", "dev"),
}
_ROLES = {name: part for part, names in _NAMES.items() for name in names}
TESTED = 5  # one image in so many, where no test set is published


class Labelled(NamedTuple):
    """A published image with its class and the split that it belongs to."""

    role: str  # one of ROLES
    cls: str
    name: str  # class/file
    image: Entry


def role(name: str) -> str:
    """The role of a split of this name, in any case; "" for other names."""
    return _ROLES.get(name.casefold(), "")


def assign(path: Path, images: list[Labelled], num_test: int | None, account: Account) -> Published:
    """The data set, whose classes are those of the training images.

    - train and test: data.num_val training images validate.
    - train, test and val: val is the validation split, which data.split=full trains on as well, as on every image that
      is not tested.
    - train and val: val is the test set, as published results on ImageNet take it.
    - train: the test set is drawn class by class, with a seed of its own.

    Args:
        path: named in errors.
        num_test: images to draw where no test set is published, 0 for one in TESTED; None requires a published one.
        account: of the files left out.
    Raises:
        PipelineError: training images of less than two classes, a class that training lacks, classes that are spelled alike,
            no test set; as `divide`.
    """
    classes = sorted({image.cls for image in images if image.role == "train"})
    if not classes:
        raise PipelineError(f"{path} holds no training images; arrange them as train/<class>/* and fetch again")
    if len(classes) == 1:
        raise PipelineError(
            f"all training images in {path} are of one class, {printable(classes[0])}; arrange those of each class as "
            "train/<class>/*, or read boxes in COCO's format (override: data=boxes)"
        )
    require_distinct(classes, path)
    labels = {composed(cls): label for label, cls in enumerate(classes)}
    records: dict[str, list[Record]] = {name: [] for name in ROLES}
    for image in images:
        if (label := labels.get(composed(image.cls))) is None:
            require_printed(image.name, path)
            raise PipelineError(
                f"{printable(image.image.name)} in {path} is of class {printable(image.cls)}, which train/ does not have; "
                "remove it, or add training images of that class"
            )
        records[image.role].append(Record(image.name, label, image.image))
    if not records["test"] and not records["val"]:
        if num_test is None:
            raise PipelineError(
                f"{path} holds no images in test/<class>/* or val/<class>/*; arrange them like this and fetch again"
            )
        sizes = np.bincount([record.label for record in records["train"]])
        if sizes.min() < 3:
            raise PipelineError(
                f"class {printable(classes[sizes.argmin()])} in {path} has {sizes.min()} images, and no test set is published; each "
                "class needs three, one to train, one to validate and one to test: add images, or remove the class"
            )
    train, test, notes = divide(path, records, num_test, classes)
    return Published(classes, train, test, account.left_out(), notes)


def divide(
    path: Path, records: Mapping[str, list[Record]], num_test: int | None, classes: Sequence[str]
) -> tuple[list[Record], list[Record], list[str]]:
    """Records to train on, which include those that validate, records to test on, and what was decided; see `assign`.

    Args:
        records: by role.
        classes: names, by label.
    Raises:
        PipelineError: `num_test` beside a published test set; a drawn one takes almost all images of a class; as `draw_test`.
    """
    train, test, val = (records[name] for name in ROLES)
    if num_test and (published := test or val):
        raise PipelineError(
            f"data.num_test={num_test}, but {path} has a test set of {len(published):,} images; take that (override: data.num_test=0)"
        )
    if test and val:
        note = f"the {len(val):,} images of val are the validation split; data.num_val and data.split_seed do not apply"
        return [*train, *(record._replace(val=True) for record in val)], test, [note]
    if test:
        return train, test, []
    if val:
        return train, val, ["val is the test set, since there is no test; data.num_val images of train validate"]
    # Archives list their files in any order.
    train.sort(key=lambda record: (record.label, record.name))
    labels = len({record.label for record in train})  # one where objects have boxes
    drawn = f"drawn{' by class' if labels > 1 else ''} with a fixed seed"
    count = num_test or max(len(train) // TESTED, labels)
    have = Counter(label for record in train for label in record.labels)

    def short(number: int) -> list[str]:
        """Classes that have an image to train and one to validate, but not where `number` images are drawn."""
        left = Counter(label for record in draw_test(train, number)[0] for label in record.labels)
        return [classes[label] for label in sorted(have) if left[label] < 2 <= have[label]]

    if taken := short(count):
        fewer = range(labels, count)
        at = bisect_left(fewer, True, key=lambda number: bool(short(number)))
        remedy = f"draw fewer (override: data.num_test={fewer[at - 1]}), or " if at else ""
        raise PipelineError(
            f"{count:,} images of {path} are drawn to test, which leaves less than two of class {printable(taken[0])}, one to train "
            f"and one to validate: {remedy}add images of that class, or remove it"
        )
    rest, test = draw_test(train, count)
    note = f"no test set is published, so {len(test):,} of {len(train):,} images, {drawn}, are the test set (data.num_test)"
    return rest, test, [note]


def draw_test(records: list[Record], count: int) -> tuple[list[Record], list[Record]]:
    """The records without `count` of them, and these, which depend on the labels and their order alone.

    Raises:
        PipelineError: `count` is too small or too large for every class to be on both sides.
    """
    labels = np.array([record.label for record in records], np.int64)
    # data.split_seed must not change the test set.
    test = set(stratified(labels, count, seed=0, key="data.num_test").tolist())
    return [r for at, r in enumerate(records) if at not in test], [records[at] for at in sorted(test)]
