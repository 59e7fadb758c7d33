"""The copy of a run's folder on a store: files under names of their content, and a list of them that is written last.

Each attempt writes below its own number, and the list of the highest number counts. What a machine that was cut off writes
an hour later lies where nobody looks any more.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.atomic import read_if_whole, replacing, sha256, write_json
from pipeline.errors import DamagedError
from pipeline.storage.objects import BLOCK, MissingObject, Objects
from pipeline.tracking.journal import NAME as JOURNAL

LIST = "list.json"
STATE = "stored.json"  # in the folder: the list that it was last equal to
LEFT_OUT = (STATE, "shipping", "previous.ckpt")
TRIES = 5  # at files that are replaced meanwhile: those of a list, and those of a folder
AGE = "age_ns"  # of the file when its list was written


@dataclass(frozen=True)
class Stored:
    """A list on the store: which attempt's it is, and for each file its size, sha256 and `AGE`."""

    number: int
    files: dict[str, dict[str, Any]]
    written_ns: float | None  # when, by the store's clock; None where the store does not say


class Copy:
    """The copy below `objects`, for the attempt of this number.

    Attributes:
        stored: bytes of the journal that the list has.
    """

    def __init__(self, folder: Path, objects: Objects, number: int) -> None:
        self._folder, self._objects, self._number = folder, objects, number
        self._seen: dict[str, tuple[int, int]] = {}  # file -> size and time of writing as of the last `push`
        self._files: dict[str, dict[str, Any]] = {}
        self._first = True
        self.stored = 0

    def push(self) -> bool:
        """Brings the copy up to date; false if it was. The journal comes last, so that it covers the checkpoint.

        A checkpoint takes its name whole, so that its open file stays as it is; a journal grows, and its first bytes stay.
        All files are opened before the first is uploaded, so that the list is of one moment, however long uploads take.
        """
        with ExitStack() as open_:
            now, changed = self._opened(open_)
            if now == self._seen and not self._first:
                return False
            files = {name: facts for name, facts in self._files.items() if name in now and name not in changed}
            for name in sorted(changed, key=lambda name: (name == JOURNAL, name)):
                files[name] = self._uploaded(name, changed[name])
        # Ages, since clocks of machines differ.
        files = {name: {**facts, AGE: time.time_ns() - now[name][1]} for name, facts in files.items()}
        self._objects.write(f"{self._number:020d}/{LIST}", json.dumps(files).encode())
        self._note(files)
        objects = {LIST, *(_object(name, facts) for name, facts in files.items())}
        stale = self._first or any(_object(name, facts) not in objects for name, facts in self._files.items())
        self._seen, self._files, self._first = now, files, False
        self.stored = files.get(JOURNAL, {}).get("size", 0)
        if stale:
            self._remove_all_but(objects)
        return True

    def _opened(self, open_: ExitStack) -> tuple[dict[str, tuple[int, int]], dict[str, BinaryIO]]:
        """The folder's files as they are at one moment, but for the journal; of those that the copy lacks, the open files."""
        for _ in range(TRIES):
            now, changed = _look(self._folder), dict[str, BinaryIO]()
            for name in now:
                if name not in self._files or now[name] != self._seen.get(name):
                    with suppress(FileNotFoundError):  # it has gone, and the next look shows it
                        changed[name] = open_.enter_context((self._folder / name).open("rb"))
            after = _look(self._folder)
            if {**now, JOURNAL: None} == {**after, JOURNAL: None}:
                break
        return now, changed

    def _uploaded(self, name: str, file: BinaryIO) -> dict[str, Any]:
        """The file's entry in the list, once the store has it."""
        size = os.fstat(file.fileno()).st_size
        facts = {"size": size, "sha256": _digest(file, size)}
        if name not in self._files or _object(name, facts) != _object(name, self._files[name]):
            self._objects.upload(file, size, f"{self._number:020d}/{_object(name, facts)}")
        return facts

    def pull(self) -> bool:
        """Makes the folder's files those of the store's newest copy; false if the store has none, or they are."""
        stored = pulled(self._folder, self._objects, lambda number: number < self._number)
        self.stored = (self._folder / JOURNAL).stat().st_size if stored and (self._folder / JOURNAL).exists() else 0
        return stored

    def _note(self, files: dict[str, dict[str, Any]]) -> None:
        write_json(self._folder / STATE, {"url": self._objects.url, "number": self._number, "files": files})

    def _remove_all_but(self, kept: set[str]) -> None:
        """Removes what earlier attempts have left, and this one's objects but `kept`."""
        for path in self._objects.list():
            number, _, name = path.partition("/")
            if number.isdecimal() and (
                int(number) < self._number or (int(number) == self._number and name not in kept)
            ):
                self._objects.remove(path)


def is_stored(folder: Path, objects: Objects) -> bool:
    """Whether the store has the folder's files, as far as this machine knows."""
    state = read_if_whole(folder / STATE)
    files = state.get("files", {})
    return state.get("url") == objects.url and all(
        path.name in files and path.stat().st_size == files[path.name]["size"] for path in _kept_files(folder)
    )


def pulled(
    folder: Path,
    objects: Objects,
    counts: Callable[[int], bool] = lambda number: True,
    without: Iterable[str] = (),
    ahead_ns: int = 0,
) -> bool:
    """Makes the folder's files those of the newest list; false where there is none, or they are already, or go on from it.

    Args:
        counts: which attempts' lists count, by their number.
        without: files that are not needed.
        ahead_ns: how far the store's clock is ahead of this machine's, by which files are to be dated.
    Raises:
        DamagedError: an object is not what was written.
    """
    for attempt in range(TRIES):
        try:
            stored = newest(objects, counts)
            if stored is None or _goes_on_from(folder, objects, stored):
                return False
            _fetch(folder, objects, stored, set(without), ahead_ns)
            return True
        except MissingObject:  # its attempt has replaced a file, or a newer one has removed them all
            if attempt == TRIES - 1:
                raise DamagedError(
                    f"{objects.url} lacks files of its list; start the run anew, or restore them"
                ) from None
    raise AssertionError


def newest(objects: Objects, counts: Callable[[int], bool] = lambda number: True) -> Stored | None:
    """The list of the highest number."""
    there = objects.list()
    numbers = [int(name.partition("/")[0]) for name in there if re.fullmatch(rf"\d+/{re.escape(LIST)}", name)]
    number = max(filter(counts, numbers), default=None)
    if number is None:
        return None
    name = f"{number:020d}/{LIST}"
    return Stored(number, json.loads(objects.read(name)), there[name][1])


def _goes_on_from(folder: Path, objects: Objects, stored: Stored) -> bool:
    """Whether the folder was equal to the list and nobody else has written since: then what it has more is its own."""
    state = read_if_whole(folder / STATE)
    there = all((folder / name).exists() for name in stored.files)
    return there and state == {"url": objects.url, "number": stored.number, "files": stored.files}


def _fetch(folder: Path, objects: Objects, stored: Stored, without: set[str], ahead_ns: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: facts for name, facts in stored.files.items() if name not in without}
    (folder / STATE).unlink(missing_ok=True)
    for path in _kept_files(folder):
        if path.name not in stored.files:
            path.unlink()
    (folder / "previous.ckpt").unlink(missing_ok=True)
    for name in without & stored.files.keys():  # an older one must not pass for that of the files beside it
        if not _is_copy(folder / name, stored.files[name]):
            (folder / name).unlink(missing_ok=True)
    for name, facts in files.items():
        path = folder / name
        if not _is_copy(path, facts):
            with replacing(path) as part:
                objects.download(f"{stored.number:020d}/{_object(name, facts)}", part)
                if sha256(part) != facts["sha256"]:
                    raise DamagedError(f"{objects.url}: {name} has changed since it was written; remove {objects.url}")
        if stored.written_ns is not None:
            # By their times a silent sweep is known, and the last one.
            time_ns = int(stored.written_ns) - facts[AGE] - ahead_ns
            with suppress(PermissionError):  # of another user, who shares the folder
                os.utime(path, ns=(time_ns, time_ns))
    if not without:
        write_json(folder / STATE, {"url": objects.url, "number": stored.number, "files": stored.files})


def _is_copy(path: Path, facts: dict[str, Any]) -> bool:
    return path.exists() and path.stat().st_size == facts["size"] and sha256(path) == facts["sha256"]


def _kept_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    named = (path for path in folder.iterdir() if path.name not in LEFT_OUT and not path.name.startswith("."))
    return [path for path in named if path.is_file()]


def _look(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of writing of each file that is kept, by its name."""
    facts: dict[str, tuple[int, int]] = {}
    for path in _kept_files(folder):
        with suppress(FileNotFoundError):
            status = path.stat()
            facts[path.name] = status.st_size, status.st_mtime_ns
    return facts


def _object(name: str, facts: dict[str, Any]) -> str:
    return f"{facts['sha256'][:16]}-{name}"


def _digest(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256()
    while size and (block := file.read(min(BLOCK, size))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()
