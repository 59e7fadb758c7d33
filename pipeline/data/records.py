"""What every reader of a published format gives: a record for each image, and an account of the files left out."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.archives import Entry
from pipeline.data.boxes import Boxes
from pipeline.errors import PipelineError, printable

MOST_KINDS = 20  # of files left out that are told apart
# Control characters, lone surrogates (names that are no UTF-8), line separators; then bidirectional overrides.
_UNPRINTED = ("Cc", "Cs", "Zl", "Zp")
_OVERRIDES = re.compile("[\u202a-\u202e\u2066-\u2069]")


class Record(NamedTuple):
    name: str  # class/file
    label: int  # of the image; 0 if its objects have boxes
    image: Entry | np.ndarray  # an encoded image, or pixels (H, W, C) uint8
    val: bool = False  # held out for validation by whoever published it
    boxes: Boxes | None = None  # in pixels of the published image

    @property
    def labels(self) -> set[int]:
        """Of all that the image shows."""
        return {self.label} if self.boxes is None else set(self.boxes.labels.tolist())


class LeftOut(NamedTuple):
    """Files that are not read."""

    what: str  # kind of file, and why it is left out
    number: int
    example: str


@dataclass
class Published:
    """A data set as published, in the canonical order."""

    classes: list[str]
    train: list[Record]  # with the images that were held out for validation
    test: list[Record]
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was decided about the splits

    def arrange(self, path: Path) -> None:
        """Sorts the records by class and name, and checks the names, which reach reports, logs and MLflow.

        Raises:
            PipelineError: a name that cannot be printed, that occurs twice, or a class that another spells in other case.
        """
        require_distinct(self.classes, path)
        for records in (self.train, self.test):
            records.sort(key=lambda record: (record.label, record.name, record.val))
            before = None
            for record in records:
                require_printed(record.name, path)
                place = (record.label, record.name, record.val)
                if place == before and not isinstance(record.image, np.ndarray):  # CIFAR's names need not be unique
                    raise PipelineError(f"{record.name} occurs twice in {path}; pack every image once")
                before = place


def require_printed(name: str, path: Path) -> None:
    """Raises PipelineError for a name with control characters, or one that was no UTF-8."""
    if name.isprintable():
        return
    if any(unicodedata.category(char) in _UNPRINTED for char in name) or _OVERRIDES.search(name):
        raise PipelineError(
            f"the name {printable(name)} in {path} holds control characters or is no UTF-8; rename the file or folder"
        )


def composed(name: str) -> str:
    """The name with accents composed (NFC): some systems and tools decompose them, and both spellings look alike."""
    return unicodedata.normalize("NFC", name)


def require_distinct(classes: list[str], path: Path) -> None:
    """Raises PipelineError for classes that differ only in case or accents' composition, one folder on other systems."""
    alike: dict[str, str] = {}
    for name in classes:
        other = alike.setdefault(composed(name).casefold(), name)
        if other is not name:
            raise PipelineError(
                f"the classes {printable(other)} and {printable(name)} in {path} differ only in case or in how accents are "
                "written; rename one of them, or merge them"
            )


class Account:
    """Counts the files left out by kind, with the first name of each; memory does not grow with their number."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[int, str]] = {}

    def add(self, what: str, name: str, count: int = 1) -> None:
        if what not in self._kinds and len(self._kinds) >= MOST_KINDS:
            what = "files of still other kinds"
        number, example = self._kinds.get(what, (0, name))
        self._kinds[what] = (number + count, example)

    def take(self, other: Account) -> None:
        """Adds what another account counted."""
        for what, (number, example) in other._kinds.items():
            self.add(what, example, number)

    def left_out(self) -> list[LeftOut]:
        """By kind, sorted."""
        return [LeftOut(what, *self._kinds[what]) for what in sorted(self._kinds)]
