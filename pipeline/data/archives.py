"""Entries of a folder, tar or zip, read in place: nothing is unpacked, and links and unsafe names are refused.

Entries are listed once and then read in any order by several threads, so that the order of a data set does not depend on
its archive. This file holds what all kinds share; `Folder`, `tars.Tar` and `zips.Zip` are the kinds.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from pipeline.config import LimitsConfig
from pipeline.errors import MissingError, PipelineError, printable

SUFFIXES = (".tar", ".tgz", ".tar.gz", ".zip")
LONGEST_NAME = 4096  # bytes, Linux's limit for a path
DEEPEST = 100  # folders within folders
DEPTH = 3  # of the folders that `Container.folders` keeps: a top folder, train, class

# Folders that systems and file servers keep among the user's.
_KEPT_BY_SYSTEMS = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "System Volume Information")

Visible = Callable[[list[str]], list[str]]


class Entry(NamedTuple):
    """A plain file inside a container."""

    container: Container
    name: str  # relative, parts separated by /
    place: int  # tar: offset of the first byte; zip: position in the directory; folder: 0
    size: int  # bytes

    def read(self) -> bytes:
        """The entry's bytes; several threads may call this.

        Raises:
            PipelineError: the archive is damaged there, or the entry is larger than data.limits.entry_mb.
        """
        if self.size > self.container.limits.entry_mb * 1e6:
            raise self.container.over(f"{printable(self.name)} with {self.size:,} bytes", "entry_mb", self.size / 1e6)
        return self.container.read(self)


class Container(ABC):
    """A folder or archive; its entries can be read until the `with` block ends.

    Attributes:
        folders: the folders themselves, at most DEPTH deep, once `entries` has been read to its end. They promise classes.
    """

    def __init__(self, path: Path, limits: LimitsConfig) -> None:
        self.path, self.limits = path, limits
        self.folders: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes what the container holds open; a folder holds nothing."""
        return

    def entries(self) -> Iterator[Entry]:
        """Every plain file.

        Raises:
            PipelineError: the archive is damaged, holds a link, a device, an encrypted file or an unsafe name, or goes
                beyond data.limits.
        """
        return self.within_limits(self.listed())

    @abstractmethod
    def listed(self) -> Iterator[Entry]:
        """As `entries`, without limits."""

    @abstractmethod
    def read(self, entry: Entry) -> bytes:
        """As `Entry.read`, without limits."""

    def within_limits(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """`entries`, counted; raises PipelineError where they go beyond data.limits."""
        total = 0
        for number, entry in enumerate(entries, 1):
            total += entry.size
            self.require_entries(number + len(self.folders))
            self.require_total(total)
            yield entry

    def require_entries(self, number: int) -> None:
        """Raises PipelineError if `number` files and folders are more than data.limits.entries."""
        if number > self.limits.entries:
            raise self.over(f"at least {number:,} files and folders", "entries", 2 * number)

    def require_total(self, size: int) -> None:
        """Raises PipelineError if `size` bytes are more than data.limits.total_gb."""
        if size > self.limits.total_gb * 1e9:
            raise self.over(f"at least {size:,} bytes", "total_gb", 2 * size / 1e9)

    def require_ratio(self, size: int, packed: int) -> None:
        """Raises PipelineError if `size` bytes, unpacked from `packed`, are more than data.limits.ratio. A MB is free."""
        if size > 1_000_000 and size > packed * self.limits.ratio:
            raise self.over(f"at least {size:,} bytes, packed into {packed:,}", "ratio", 2 * size / max(1, packed))

    def over(self, what: str, key: str, enough: float) -> PipelineError:
        """The error for going beyond data.limits.`key`, with a value that is `enough`."""
        return PipelineError(
            f"{self.path} holds {what}, which is more than data.limits.{key}={getattr(self.limits, key):g} allows; if you "
            f"trust its source, raise the limit (override: data.limits.{key}={math.ceil(enough)})"
        )

    def safe(self, name: str) -> str:
        """The name of an archive's entry, relative and with / between its parts.

        Raises:
            PipelineError: it points outside the archive, or no file can have it.
        """
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or name[1:2] == ":":
            raise PipelineError(
                f"{printable(name)} in {self.path} points outside the archive; get the archive from another source"
            )
        if "\0" in name or len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
            raise PipelineError(
                f"{printable(name)} in {self.path} is a name of more than {LONGEST_NAME} bytes or with a NUL, which no file "
                "has; rename it and pack again"
            )
        return "/".join(part for part in parts if part not in ("", "."))

    def keep_folder(self, name: str) -> None:
        """Adds to `folders`."""
        if name and name.count("/") < DEPTH:
            self.folders.add(name)
            self.require_entries(len(self.folders))


def hidden(parts: Iterable[str]) -> bool:
    """Whether a path of these parts is hidden, or below a folder that is hidden or a system's."""
    return any(part.startswith(".") or part in _KEPT_BY_SYSTEMS for part in parts)


def open_container(path: Path, scratch: Path, limits: LimitsConfig, visible: Visible | None = None) -> Container:
    """The folder or archive at `path`.

    Args:
        scratch: folder for the decompressed copy of a gzipped tar.
        visible: as of `Folder`.
    Raises:
        MissingError: `path` does not exist.
        PipelineError: neither a folder nor a .tar, .tgz, .tar.gz or .zip archive, or a damaged archive.
    """
    from pipeline.data.tars import Tar
    from pipeline.data.zips import Zip

    if path.is_dir():
        return Folder(path, limits, visible)
    if not path.exists():
        raise MissingError(f"{path} does not exist; it should be a folder or one of {', '.join(SUFFIXES)}")
    if not path.is_file() or not path.name.lower().endswith(SUFFIXES):
        raise PipelineError(
            f"{path} is neither a folder nor a supported archive; archives are plain files whose names end in "
            f"{', '.join(SUFFIXES)}"
        )
    return Zip(path, limits) if path.name.lower().endswith(".zip") else Tar(path, limits, scratch)


class Folder(Container):
    """Files below a folder, sorted by name within each folder; symbolic links are followed, since the user made them.

    What is `hidden` is not looked at. A link in a circle, a link to nowhere, and whatever is no plain file (a pipe, a socket,
    a device) is refused unopened.

    Args:
        visible: chooses from the sorted names at the top those that are looked at, and their order; None for all.
    """

    def __init__(self, path: Path, limits: LimitsConfig, visible: Visible | None = None) -> None:
        super().__init__(path, limits)
        self._visible = visible

    def listed(self) -> Iterator[Entry]:
        return self._below("", ())

    def _below(self, folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[Entry]:
        """Entries of a folder; `above` identifies the folders around it."""
        status = self._status(folder)
        if not stat.S_ISDIR(status.st_mode):
            if not stat.S_ISREG(status.st_mode):
                raise self._refused(folder, "is a pipe, a socket or a device")
            yield Entry(self, folder, 0, status.st_size)
            return
        here = (status.st_dev, status.st_ino)
        if here in above or len(above) > DEEPEST:
            raise self._refused(folder, "is a link to a folder around it, or lies too deep")
        self.keep_folder(folder)
        try:
            names = sorted(name for name in os.listdir(os.path.join(self.path, folder)) if not hidden([name]))
        except PermissionError:
            raise self._refused(folder, "may not be read by you") from None
        if not folder and self._visible is not None:
            names = self._visible(names)
        for name in names:
            yield from self._below(f"{folder}/{name}" if folder else name, (*above, here))

    def read(self, entry: Entry) -> bytes:
        try:
            # A pipe put there since the listing would wait for a writer.
            descriptor = os.open(os.path.join(self.path, entry.name), os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise self._explained(entry.name, error) from None
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise self._refused(entry.name, "is a pipe, a socket or a device")
            content = file.read(entry.size + 1)
        if len(content) != entry.size:
            raise PipelineError(
                f"{printable(entry.name)} in {self.path} changed while it was read; fetch again once it rests"
            )
        return content

    def _status(self, name: str) -> os.stat_result:
        try:
            return os.stat(os.path.join(self.path, name))
        except OSError as error:
            raise self._explained(name, error) from None

    def _explained(self, name: str, error: OSError) -> Exception:
        """The error itself where the machine failed, and a sentence where the user can mend it."""
        reasons = {
            errno.ENOENT: "is a link to nowhere, or vanished",
            errno.ENXIO: "is a pipe, a socket or a device",
            errno.ELOOP: "is a link in a circle",
            errno.EACCES: "may not be read by you",
            errno.EPERM: "may not be read by you",
            errno.ENAMETOOLONG: "has too long a name",
        }
        return self._refused(name, reasons[error.errno]) if error.errno in reasons else error

    def _refused(self, name: str, reason: str) -> PipelineError:
        return PipelineError(
            f"{printable(name)} in {self.path} {reason}; a data set takes plain files: replace or remove it"
        )
