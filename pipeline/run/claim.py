"""Who may write a run: its attempts are numbered, and the one with the highest number owns the folder.

That a process lives is not enough: a machine that was cut off from its cluster lives on, keeps its locks and can write an
hour later. So each attempt takes the next number, and loses its right to write as soon as there is a higher one.
"""

from __future__ import annotations

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
from typing import Protocol

from pipeline.atomic import remove
from pipeline.errors import PipelineError, printable
from pipeline.run import Interrupted
from pipeline.run.board import FolderBoard, machine

SIGN_S = 2.0  # between an attempt's signs of life
SILENT_S = 30.0  # without one: the attempt has ended, or it will be too late


class TakenOver(Interrupted):
    """A newer attempt owns the run; this one may not write."""


class BusyError(PipelineError):
    """Another attempt lives and owns the run."""


class Entry(Protocol):
    """An attempt's own entry on a board."""

    number: int

    def latest(self) -> int:
        """The highest number on the board, as far as is known."""

    def write(self, content: bytes) -> None: ...

    def sign(self) -> None:
        """Gives a sign of life."""

    def close(self) -> None: ...


class Board(Protocol):
    """Where a run's attempts are entered: the run's folder, or a store of objects that machines share."""

    title: str
    look_s: float  # between looks at another attempt

    def latest(self) -> int:
        """The highest number; 0 without any."""

    def ordinal(self, number: int) -> int:
        """Which attempt has the number, from 1."""

    def read(self, number: int) -> bytes:
        """What the attempt wrote about itself; b"" where it wrote nothing yet, or is gone."""

    def sign_of(self, number: int) -> object:
        """Changes with each sign of life."""

    def has_ended(self, number: int, on: str) -> bool:
        """Whether it is certain that the process, of machine `on`, has ended."""

    def enter(self, after: int, content: bytes) -> Entry | None:
        """Enters an attempt with a number above `after`; None if another was faster."""

    def remove_before(self, number: int) -> None: ...


@dataclass(frozen=True)
class Claim:
    """An attempt's right to write the folder."""

    board: Board
    entry: Entry

    @property
    def number(self) -> int:
        return self.entry.number

    @property
    def ordinal(self) -> int:
        return self.board.ordinal(self.number)

    def secure(self) -> None:
        """Waits until what was written is where other machines find it, if it can be."""

    def kept(self) -> int | None:
        """Bytes of the run's journal that another attempt would find; None for all that was written."""
        return None

    def require(self) -> None:
        """Called right before each write.

        Raises:
            TakenOver: a newer attempt has begun.
        """
        if (latest := self.entry.latest()) > self.number:
            raise TakenOver(
                f"{self.board.title} was taken over by attempt {self.board.ordinal(latest)}, "
                f"{_holder(self.board, latest).title}; attempt {self.ordinal} has ended"
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

    @property
    def content(self) -> bytes:
        return json.dumps(asdict(self)).encode()


@contextmanager
def claimed(
    place: Path | Board, owner: str = "", patience_s: float = 0.0, asked: Callable[[], bool] = lambda: False
) -> Iterator[Claim]:
    """Owns the place for the block. An attempt whose process has ended, or is silent for SILENT_S, is taken over.

    Args:
        place: the run's folder, or another board.
        owner: whoever starts attempts, for example a sweep, and knows that an earlier one of its own is lost even if it
            still lives; "" for nobody.
        patience_s: seconds to wait for the end of an attempt that lives and has another owner.
        asked: whether to wait no longer.
    Raises:
        BusyError: an attempt that lives still owns the place.
        Interrupted: it does, and `asked` says so.
    """
    board = FolderBoard(place) if isinstance(place, Path) else place
    holder = _Holder(socket.gethostname(), os.getpid(), machine(), owner)
    claim = _taken(board, holder, time.monotonic() + patience_s, asked)
    over = threading.Event()
    signs = threading.Thread(target=_give_signs, args=(claim.entry, over), daemon=True, name="signs-of-attempt")
    signs.start()
    try:
        if isinstance(place, Path):
            for stale in place.glob(".*.part"):
                remove(stale)
        yield claim
    finally:
        over.set()
        signs.join()
        with suppress(OSError, PipelineError):  # the others wait for SILENT_S, or see that its lock is free
            claim.entry.write(replace(holder, ended=True).content)
        claim.entry.close()


def _taken(board: Board, taker: _Holder, until: float, asked: Callable[[], bool]) -> Claim:
    """A claim of the next number."""
    while True:
        latest = board.latest()
        holder = _holder(board, latest)
        own = bool(taker.owner) and holder.owner == taker.owner
        if latest and not own and _lives(board, latest):
            if asked():
                raise Interrupted(f"stopped while {holder.title} was writing {board.title}")
            if time.monotonic() >= until:
                raise BusyError(
                    f"{board.title} is being written by {holder.title}; wait for it to end or stop it, then run this again"
                )
            continue
        if (entry := board.enter(latest, taker.content)) is not None:
            break
    if latest and not (own or holder.ended or holder.machine == taker.machine):
        print(f"{board.title}: takes over from {holder.title}, which gives no sign of life", file=sys.stderr)
    board.remove_before(entry.number)
    return Claim(board, entry)


def _lives(board: Board, number: int) -> bool:
    """Watches an attempt until it gives a sign of life, has ended, or was silent for SILENT_S."""
    until, seen = time.monotonic() + SILENT_S, board.sign_of(number)
    while time.monotonic() < until:
        holder = _holder(board, number)
        if holder.ended or board.has_ended(number, holder.machine):
            return False
        if board.sign_of(number) != seen:
            return True
        time.sleep(board.look_s)
    return False


def _give_signs(entry: Entry, over: threading.Event) -> None:
    while not over.wait(SIGN_S):
        with suppress(OSError, PipelineError):
            entry.sign()


def _holder(board: Board, number: int) -> _Holder:
    """Who made the attempt's entry; nobody by name if it says nothing yet."""
    try:
        return _Holder(**json.loads(board.read(number)))
    except (ValueError, TypeError):
        return _Holder()
