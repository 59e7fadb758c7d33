"""Who may write a run: its attempts are numbered, and the one with the highest number owns the folder.

That a process lives is not enough: a machine that was cut off from its cluster lives on, keeps its locks and can write an
hour later. So each attempt takes the next number, and loses its right to write as soon as there is a higher one.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.errors import PipelineError, printable
from pipeline.run import Interrupted

ATTEMPTS = "attempts"  # folder of a run, with a file for its newest attempt, named by its number
SIGN_S = 2.0  # between an attempt's signs of life
SILENT_S = 30.0  # without one: the attempt has ended, or it will be too late


class TakenOver(Interrupted):
    """A newer attempt owns the run; this one may not write."""


@dataclass(frozen=True)
class Claim:
    """An attempt's right to write the folder."""

    folder: Path
    number: int

    def require(self) -> None:
        """Called right before each write.

        Raises:
            TakenOver: a newer attempt has begun.
        """
        if (latest := _latest(self.folder)) > self.number:
            raise TakenOver(
                f"{self.folder} was taken over by attempt {latest}, {_holder(self.folder, latest).title}; "
                f"attempt {self.number} has ended"
            )


@dataclass(frozen=True)
class _Holder:
    host: str = "another machine"
    pid: int = 0
    machine: str = ""
    owner: str = ""
    ended: bool = False

    @property
    def title(self) -> str:
        return f"process {self.pid} on {printable(self.host)}" if self.pid else printable(self.host)


@contextmanager
def claimed(
    folder: Path, owner: str = "", patience_s: float = 0.0, asked: Callable[[], bool] = lambda: False
) -> Iterator[Claim]:
    """Owns the folder for the block. An attempt whose process has ended, or is silent for SILENT_S, is taken over.

    Args:
        owner: whoever starts attempts, for example a sweep, and knows that an earlier one of its own is lost even if it
            still lives; "" for nobody.
        patience_s: seconds to wait for the end of an attempt that lives and has another owner.
        asked: whether to wait no longer.
    Raises:
        PipelineError: an attempt that lives still owns the folder.
        Interrupted: it does, and `asked` says so.
    """
    (folder / ATTEMPTS).mkdir(parents=True, exist_ok=True)
    holder = _Holder(socket.gethostname(), os.getpid(), _machine(), owner)
    claim, descriptor = _taken(folder, holder, time.monotonic() + patience_s, asked)
    over = threading.Event()
    signs = threading.Thread(target=_give_signs, args=(descriptor, over), daemon=True, name="signs-of-attempt")
    signs.start()
    try:
        for stale in folder.glob(".*.part"):
            stale.unlink(missing_ok=True)
        yield claim
    finally:
        over.set()
        signs.join()
        with suppress(OSError):  # a full disk; the lock, which ends here too, tells the same on this machine
            _write(descriptor, replace(holder, ended=True))
        os.close(descriptor)


def _taken(folder: Path, taker: _Holder, until: float, asked: Callable[[], bool]) -> tuple[Claim, int]:
    """A claim of the next number, with the descriptor of its locked file."""
    while True:
        latest = _latest(folder)
        holder = _holder(folder, latest)
        own = bool(taker.owner) and holder.owner == taker.owner
        if latest and not own and _lives(folder, latest):
            if asked():
                raise Interrupted(f"stopped while {holder.title} was writing {folder}")
            if time.monotonic() >= until:
                raise PipelineError(
                    f"{folder} is being written by {holder.title}; wait for it to end or stop it, then run this again"
                )
            continue
        if (descriptor := _created(folder, latest + 1, taker)) is not None:
            break
    if latest and not (own or holder.ended or holder.machine == taker.machine):
        print(f"{folder}: takes over from {holder.title}, which gives no sign of life", file=sys.stderr)
    for number in _numbers(folder):
        if number <= latest:
            _file(folder, number).unlink(missing_ok=True)
    return Claim(folder, latest + 1), descriptor


def _created(folder: Path, number: int, holder: _Holder) -> int | None:
    """Descriptor of the attempt's new file; None if another attempt was faster."""
    path = _file(folder, number)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    except FileExistsError:
        return None
    try:
        with suppress(OSError):  # a file system without locks: other machines go by the signs of life
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write(descriptor, holder)
        if _latest(folder) == number:  # else this number was free since a newer attempt removed its file
            return descriptor
    except OSError:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    path.unlink(missing_ok=True)
    os.close(descriptor)
    return None


def _lives(folder: Path, number: int) -> bool:
    """Watches an attempt until it gives a sign of life, has ended, or was silent for SILENT_S."""
    path, until = _file(folder, number), time.monotonic() + SILENT_S
    seen = _sign(path)
    while time.monotonic() < until:
        holder = _holder(folder, number)
        # A lock is sure on its own machine only: servers of files lose some, and keep others.
        if holder.ended or (holder.machine == _machine() and _is_free(path)):
            return False
        if _sign(path) != seen:
            return True
        time.sleep(0.05)
    return False


def _give_signs(descriptor: int, over: threading.Event) -> None:
    while not over.wait(SIGN_S):
        with suppress(OSError):
            os.utime(descriptor)


def _sign(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _is_free(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True


def _write(descriptor: int, holder: _Holder) -> None:
    content = json.dumps(asdict(holder)).encode()
    os.pwrite(descriptor, content, 0)
    os.ftruncate(descriptor, len(content))


def _holder(folder: Path, number: int) -> _Holder:
    """Who made the attempt's file; nobody by name if it says nothing yet."""
    try:
        return _Holder(**json.loads(_file(folder, number).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return _Holder()


def _latest(folder: Path) -> int:
    return max(_numbers(folder), default=0)


def _numbers(folder: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(folder / ATTEMPTS) if name.isdecimal()]
    except FileNotFoundError:  # somebody removed the run
        return []


def _file(folder: Path, number: int) -> Path:
    return folder / ATTEMPTS / str(number)


def _machine() -> str:
    """The same for all processes of one kernel, whatever their containers are called."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else socket.gethostname()
