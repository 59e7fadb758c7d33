"""The attempts at a run, entered as files in its folder: on this machine, or in a folder that machines share."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

ATTEMPTS = "attempts"  # folder of a run, with a file for its newest attempt, named by its number


class FolderBoard:
    """`claim.Board` in a folder, whose entries are locked files."""

    look_s = 0.05

    def __init__(self, folder: Path) -> None:
        self.title, self._folder = str(folder), folder / ATTEMPTS

    def latest(self) -> int:
        return max(self._numbers(), default=0)

    def ordinal(self, number: int) -> int:
        return number

    def read(self, number: int) -> bytes:
        try:
            return self._file(number).read_bytes()
        except FileNotFoundError:
            return b""

    def sign_of(self, number: int) -> object:
        try:
            return self._file(number).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def has_ended(self, number: int, on: str) -> bool:
        # A lock is sure on its own machine only: servers of files lose some, and keep others.
        return on == machine() and _is_free(self._file(number))

    def enter(self, after: int, content: bytes) -> _Entry | None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._file(after + 1)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        except FileExistsError:
            return None
        entry = _Entry(self, after + 1, descriptor)
        try:
            with suppress(OSError):  # a file system without locks: other machines go by the signs of life
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            entry.write(content)
            if self.latest() == entry.number:  # else this number was free since a newer attempt removed its file
                return entry
        except OSError:
            path.unlink(missing_ok=True)
            entry.close()
            raise
        path.unlink(missing_ok=True)
        entry.close()
        return None

    def remove_before(self, number: int) -> None:
        for older in self._numbers():
            if older < number:
                self._file(older).unlink(missing_ok=True)

    def _numbers(self) -> list[int]:
        try:
            return [int(name) for name in os.listdir(self._folder) if name.isdecimal()]
        except FileNotFoundError:  # somebody removed the run
            return []

    def _file(self, number: int) -> Path:
        return self._folder / str(number)


class _Entry:
    """An attempt's locked file."""

    def __init__(self, board: FolderBoard, number: int, descriptor: int) -> None:
        self._board, self.number, self._descriptor = board, number, descriptor

    def latest(self) -> int:
        return self._board.latest()

    def write(self, content: bytes) -> None:
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))

    def sign(self) -> None:
        os.utime(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _is_free(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:  # it is locked, or the file system takes no locks
        return False
    return True


def machine() -> str:
    """The same for all processes of one kernel, whatever their containers are called."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text(encoding="utf-8").strip() if boot.exists() else socket.gethostname()
