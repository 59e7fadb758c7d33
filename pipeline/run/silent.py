"""Which ranks have fallen silent: each rank counts up in the store where the ranks met, for as long as it lives."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from pipeline.errors import printable
from pipeline.run import Interrupted

START_S = 300.0  # between the first rank's start and the last one's
SIGNS = 20  # of life in trainer.timeout_s
MISSED = 3  # signs in a row: silent


class SilentRanks(Interrupted):
    """Ranks ended, stopped or cannot be reached; the same command goes on from the last checkpoint."""


class SignsOfLife:
    """Waits for all ranks, gives this rank's signs of life until `end`, and says which other ranks give none.

    Args:
        host, port: where the ranks meet.
        timeout_s: trainer.timeout_s.
    Raises:
        SilentRanks: a rank did not come in START_S.
    """

    def __init__(self, host: str, port: int, rank: int, ranks: int, timeout_s: float) -> None:
        self._rank, self._ranks, self._every_s = rank, ranks, timeout_s / SIGNS
        # A connection of its own: another thread's call that waits for an answer would hold up a shared one.
        self._attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun's store outlives its attempts
        self._meeting = f"{host}:{port}"
        self._store: Any = self._met(host, port)
        self._store.set_timeout(timedelta(seconds=timeout_s))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True, name="signs-of-life")
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(self._every_s)

    def _met(self, host: str, port: int) -> Any:
        """The store, once all ranks are there."""
        start, store = timedelta(seconds=START_S), None
        try:
            store = dist.TCPStore(host, port, is_master=False, timeout=start)
            store.set(self._key("host", self._rank), socket.gethostname())
            store.wait([self._key("host", rank) for rank in range(self._ranks)], start)
        except RuntimeError:  # torch's DistError
            absent = [r for r in range(self._ranks) if store is not None and not store.check([self._key("host", r)])]
            who = ", ".join(f"rank {rank}" for rank in absent or [0])
            raise SilentRanks(f"{who} did not come to {self._meeting} in {START_S:.0f} s") from None
        return store

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
        return names[0] if names else f"rank 0 at {self._meeting}"

    def _quiet(self) -> str:
        before = self._signs()
        time.sleep(MISSED * self._every_s)
        after = self._signs()
        quiet = [rank for rank in range(self._ranks) if before[rank] == after[rank] and not self._has("left", rank)]
        names = ", ".join(f"rank {rank} on {self._host(rank)}" for rank in quiet if rank != self._rank)
        self._store.set(self._key("left", self._rank), "")
        return names

    def _count(self) -> None:
        with suppress(RuntimeError):
            while not self._over.wait(self._every_s):
                self._store.add(self._key("alive", self._rank), 1)

    def _signs(self) -> list[int]:
        return [self._store.add(self._key("alive", rank), 0) for rank in range(self._ranks)]

    def _host(self, rank: int) -> str:
        return printable(self._store.get(self._key("host", rank)).decode())

    def _has(self, what: str, rank: int) -> bool:
        return bool(self._store.check([self._key(what, rank)]))

    def _key(self, what: str, rank: int) -> str:
        return f"pipeline/{self._attempt}/{what}/{rank}"


def of_a_collective(error: BaseException) -> bool:
    """Whether other ranks caused the error: torch names its own errors, and gloo only itself."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())
