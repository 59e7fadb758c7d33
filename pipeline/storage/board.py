"""The attempts at a run, entered as objects on a store that machines share."""

from __future__ import annotations

import secrets
from contextlib import suppress

from pipeline.errors import PipelineError
from pipeline.storage.objects import MissingObject, Objects

ATTEMPTS = "attempts"
SPAN = 1 << 32  # between the numbers of attempts; within it they are drawn, so that two at once have different ones


class ObjectBoard:
    """`claim.Board` on a store, below the run's own name.

    A store cannot refuse a second entry, so each takes a number of its own: of attempts that enter at the same time, the
    highest number owns the run, and the others find that out before they write.
    """

    look_s = 1.0  # each look is two requests

    def __init__(self, objects: Objects) -> None:
        self.title, self._objects = objects.url, objects

    def latest(self) -> int:
        return max(self._numbers(), default=0)

    def ordinal(self, number: int) -> int:
        return number // SPAN

    def read(self, number: int) -> bytes:
        try:
            return self._objects.read(_name(number))
        except MissingObject:
            return b""

    def sign_of(self, number: int) -> object:
        return self._objects.list(ATTEMPTS).get(_name(number).rpartition("/")[2])

    def has_ended(self, number: int, on: str) -> bool:
        return False

    def enter(self, after: int, content: bytes) -> _Entry | None:
        number = (after // SPAN + 1) * SPAN + secrets.randbelow(SPAN)
        self._objects.write(_name(number), content)
        if self.latest() == number:
            return _Entry(self, self._objects, number, content)
        self._objects.remove(_name(number))
        return None

    def remove_before(self, number: int) -> None:
        for older in self._numbers():
            if older < number:
                self._objects.remove(_name(older))

    def _numbers(self) -> list[int]:
        return [int(name) for name in self._objects.list(ATTEMPTS) if name.isdecimal()]


class _Entry:
    """An attempt's object, which is written anew as a sign of life."""

    def __init__(self, board: ObjectBoard, objects: Objects, number: int, content: bytes) -> None:
        self.number = self._latest = number
        self._board, self._objects, self._content = ObjectBoard(objects.impatient()), objects.impatient(), content

    def latest(self) -> int:
        """As of the last sign of life: what is written meanwhile lies where nobody looks, see `copy`."""
        return self._latest

    def write(self, content: bytes) -> None:
        self._content = content
        self.sign()

    def sign(self) -> None:
        self._latest = max(self._latest, self._board.latest())
        if self._latest == self.number:
            self._objects.write(_name(self.number), self._content)

    def close(self) -> None:
        with suppress(PipelineError):
            self._latest = max(self._latest, self._board.latest())


def _name(number: int) -> str:
    return f"{ATTEMPTS}/{number:020d}"
