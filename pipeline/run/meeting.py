"""Where ranks meet: rank zero decides there what all must do alike, and the others learn it.

Each rank's own disk would give each rank its own answer: whether the run has finished, from which step it goes on.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from pipeline.errors import PipelineError, printable
from pipeline.run import Interrupted

START_S = 300.0  # between the first rank's start and the last one's
LEAVE_S = 10.0  # that rank zero waits for the others to know that it ends
_LOOK_S = 0.05


class SilentRanks(Interrupted):
    """Ranks ended, stopped or cannot be reached; the same command goes on from the last checkpoint."""


class RefusedByRankZero(PipelineError):  # noqa: N818 (the sentence is rank zero's)
    """Rank zero ended the training before it began, and tells the user why."""


class Meeting:
    """One of `ranks` ranks that meet at host:port.

    Args:
        started: ranks that run before rank zero begins to train, and wait for its word.
        serve: whether rank zero serves the store there; else the launcher does, and it outlives torchrun's attempts.
    """

    def __init__(
        self, host: str, port: int, rank: int, ranks: int, *, started: Sequence[int], serve: bool = True
    ) -> None:
        self.host, self.port, self.rank, self.ranks = host, port, rank, ranks
        self._started, self._decisions = started, 0
        self._server = _serve(host, port) if serve and rank == 0 else None
        # Each machine counts attempts for itself: one that comes back begins at 0, and would look for the others elsewhere.
        self._prefix = "pipeline" if serve else f"pipeline/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        self._joined: Any = None

    def decide(self, make: Callable[[], Any]) -> Any:
        """`make()` of rank zero, on every rank; a value of JSON. All ranks call it in the same order.

        Raises:
            RefusedByRankZero: on other ranks, if rank zero has ended instead, see `refuse`.
            SilentRanks: on other ranks, without a word of rank zero for START_S.
        """
        self._decisions += 1
        name = f"decision/{self._decisions}"
        if self.rank == 0:
            value = make()
            self._store().set(self.key(name), json.dumps(value))
            return value
        self._wait(name)
        return json.loads(self._store().get(self.key(name)))

    def refuse(self, error: BaseException) -> None:
        """Rank zero ends the training; the others raise the sentence at their next `decide`."""
        with suppress(RuntimeError):
            self._store().set(self.key("refused"), str(error))
        self.part()

    def part(self) -> None:
        """All know that there is nothing to train: rank zero, with which the store ends, waits for the others' word."""
        with suppress(RuntimeError):
            if self.rank != 0:
                self._store().set(self.key("left", self.rank), "")
                return
            until = time.monotonic() + LEAVE_S
            others = [self.key("left", rank) for rank in self._started]
            while others and time.monotonic() < until and not self._store().check(others):
                time.sleep(_LOOK_S)

    def quit(self, sentence: str) -> None:
        """This rank cannot take part, and the others are to say so."""
        with suppress(RuntimeError):
            self._store().set(self.key("unfit", self.rank), f"rank {self.rank} on {socket.gethostname()} {sentence}")
            self._store().set(self.key("host", self.rank), socket.gethostname())

    def connect(self) -> Any:
        """Another connection: a call that waits for an answer holds up all others of its own."""
        try:
            return dist.TCPStore(self.host, self.port, is_master=False, timeout=timedelta(seconds=START_S))
        except RuntimeError:  # torch's DistError
            raise self._absent([0]) from None

    def gather(self, store: Any) -> None:
        """Waits until all ranks have come.

        Args:
            store: of `connect`.
        Raises:
            SilentRanks: a rank did not come in START_S.
            PipelineError: one has quit.
        """
        store.set(self.key("host", self.rank), socket.gethostname())
        try:
            store.wait([self.key("host", rank) for rank in range(self.ranks)], timedelta(seconds=START_S))
            unfit = [self.key("unfit", rank) for rank in range(self.ranks)]
            sentences = [store.get(key).decode() for key in unfit if store.check([key])]
        except RuntimeError:
            there = range(self.ranks)
            raise self._absent([rank for rank in there if not store.check([self.key("host", rank)])]) from None
        if sentences:
            raise PipelineError("; ".join(map(printable, sentences)))

    def host_of(self, store: Any, rank: int) -> str:
        return printable(store.get(self.key("host", rank)).decode())

    def _wait(self, name: str) -> None:
        store, until = self._store(), time.monotonic() + START_S
        with suppress(RuntimeError):
            while time.monotonic() < until:
                if store.check([self.key(name)]):
                    return
                if store.check([self.key("refused")]):
                    sentence = store.get(self.key("refused")).decode()
                    self.part()
                    raise RefusedByRankZero(sentence)
                time.sleep(_LOOK_S)
        raise self._absent([0])

    def _absent(self, ranks: list[int]) -> SilentRanks:
        who = ", ".join(f"rank {rank}" for rank in ranks)
        return SilentRanks(f"{who} did not come to {self.host}:{self.port} in {START_S:.0f} s")

    def _store(self) -> Any:
        if self._joined is None:
            self._joined = self.connect()
        return self._joined

    def key(self, what: str, rank: int | None = None) -> str:
        """Of a sign in the store, of one rank or of all."""
        return f"{self._prefix}/{what}" + ("" if rank is None else f"/{rank}")


def _serve(host: str, port: int) -> Any:
    """A store that listens at this address alone, or at all where it is not this machine's, behind a translator for example.

    By default torch binds it to all interfaces, and it asks for no password. torch uses it for the process group, too, since
    servers of a port are shared.
    """
    alone: dict[str, Any] = {}
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as listening, suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(socket.SOMAXCONN)
        alone = {"master_listen_fd": listening.detach()}
    return dist.TCPStore(host, port, is_master=True, wait_for_workers=False, multi_tenant=True, **alone)
