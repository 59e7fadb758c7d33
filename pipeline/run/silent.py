"""Which ranks have fallen silent: each rank counts up in the store where the ranks met, for as long as it lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from pipeline.run.meeting import Meeting, SilentRanks

SIGNS = 20  # of life in trainer.timeout_s
MISSED = 3  # signs in a row: silent
LOOK_S = 0.05  # between looks for ranks that are to come


class SignsOfLife:
    """Waits for all ranks, gives this rank's signs of life until `end`, and says which other ranks give none.

    Args:
        timeout_s: trainer.timeout_s.
    Raises:
        meeting.SilentRanks: a rank did not come in time.
        PipelineError: one came and cannot take part.
    """

    def __init__(self, meeting: Meeting, timeout_s: float) -> None:
        self._meeting, self._rank, self._ranks = meeting, meeting.rank, meeting.ranks
        self._timeout_s, self._every_s = timeout_s, timeout_s / SIGNS
        self._store: Any = meeting.connect()
        meeting.gather(self._store)
        self._store.set_timeout(timedelta(seconds=timeout_s))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True, name="signs-of-life")
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(self._every_s)

    def wait_for_all(self) -> None:
        """Waits until all ranks call this, for as long as those that have not give signs of life; ends this rank's own.

        Raises:
            meeting.SilentRanks: one gave none for trainer.timeout_s.
        """
        self.end()
        ready = [self._meeting.key("ready", rank) for rank in range(self._ranks)]
        self._store.set(ready[self._rank], "")
        while True:
            before, until = self._signs(), time.monotonic() + self._timeout_s
            while time.monotonic() < until:
                if self._store.check(ready):
                    return
                time.sleep(LOOK_S)
            after = self._signs()
            late = [rank for rank in range(self._ranks) if not self._store.check([ready[rank]])]
            if quiet := self._names([rank for rank in late if before[rank] == after[rank]]):
                raise SilentRanks(f"{quiet} fell silent (trainer.timeout_s={self._timeout_s:g})")

    def silent(self) -> str:
        """The silent ranks and their hosts, once each rank had time for signs; "" for none.

        Without an answer of the store, that is rank zero, whose process serves it.
        """
        names: list[str] = []

        def ask() -> None:
            with suppress(RuntimeError):
                names.append(self._quiet())

        asking = threading.Thread(target=ask, daemon=True)  # a call to a store that stopped never returns
        asking.start()
        asking.join(3 * MISSED * self._every_s)
        if self._rank == 0:
            time.sleep(MISSED * self._every_s)  # for others to ask
        return names[0] if names else f"rank 0 at {self._meeting.host}:{self._meeting.port}"

    def _quiet(self) -> str:
        before = self._signs()
        time.sleep(MISSED * self._every_s)
        after = self._signs()
        quiet = [rank for rank in range(self._ranks) if before[rank] == after[rank] and not self._has_left(rank)]
        names = self._names([rank for rank in quiet if rank != self._rank])
        self._store.set(self._meeting.key("left", self._rank), "")
        return names

    def _names(self, ranks: Sequence[int]) -> str:
        return ", ".join(f"rank {rank} on {self._meeting.host_of(self._store, rank)}" for rank in ranks)

    def _count(self) -> None:
        with suppress(RuntimeError):
            while not self._over.wait(self._every_s):
                self._store.add(self._meeting.key("alive", self._rank), 1)

    def _signs(self) -> list[int]:
        return [self._store.add(self._meeting.key("alive", rank), 0) for rank in range(self._ranks)]

    def _has_left(self, rank: int) -> bool:
        return bool(self._store.check([self._meeting.key("left", rank)]))


def of_a_collective(error: BaseException) -> bool:
    """Whether other ranks caused the error: torch names its own errors, gloo and often NCCL only themselves."""
    named = any(library in str(error).lower() for library in ("gloo", "nccl"))
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and named)
