"""Owning a run for a while: in its folder, and with cluster.storage also on the store, which keeps a copy of the folder."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DamagedError, PipelineError
from pipeline.run.claim import BusyError, Claim, TakenOver, claimed
from pipeline.storage.board import ObjectBoard
from pipeline.storage.copy import Copy, pulled
from pipeline.storage.notes import ahead_ns
from pipeline.storage.objects import Objects

RUNS = "runs"  # on the store
PUSH_S = 5.0  # between looks for what the store lacks


def objects_of(storage: str, folder: Path) -> Objects:
    """Where the store keeps a run."""
    return Objects(storage).below(RUNS, folder.name)


def bring(folder: Path, storage: str, without: Iterable[str] = (), ahead_ns: int = 0) -> None:
    """Makes the run's folder on this machine the store's newest copy of it, unless the run is being written here.

    Args:
        storage: cluster.storage; "" does nothing.
        without: files that are not needed here.
        ahead_ns: see `pulled`.
    """
    if storage:
        with suppress(BusyError), claimed(folder):
            pulled(folder, objects_of(storage, folder), without=without, ahead_ns=ahead_ns)


def bring_all(runs: Path, storage: str, prefixes: tuple[str, ...] = ("",), without: Iterable[str] = ()) -> None:
    """`bring` of each run whose name begins so. One that is damaged is left out, which stderr is told."""
    if not storage:
        return
    names, ahead = {name.partition("/")[0] for name in Objects(storage).below(RUNS).list()}, ahead_ns(storage)
    for name in sorted(name for name in names if name.startswith(prefixes)):
        try:
            bring(runs / name, storage, without, ahead)
        except DamagedError as error:
            print(error, file=sys.stderr)


@contextmanager
def held(
    folder: Path,
    storage: str,
    owner: str = "",
    patience_s: float = 0.0,
    asked: Callable[[], bool] = lambda: False,
) -> Iterator[Claim]:
    """Owns the run for the block, see `claim.claimed`. The folder begins as the newest copy, wherever that was made.

    Args:
        storage: cluster.storage.
    Raises:
        PipelineError: an attempt that lives still owns the run, or the store does not answer.
    """
    with claimed(folder, owner, patience_s, asked) as here:
        if not storage:
            yield here
            return
        objects = objects_of(storage, folder)
        with claimed(ObjectBoard(objects), owner, patience_s, asked) as there:
            copy = Copy(folder, objects, there.number)
            copy.pull()
            keeper = _Keeper(copy, there)
            try:
                yield _SharedClaim(there.board, there.entry, here, keeper)
            finally:
                keeper.close()
            if keeper.failed is not None:
                raise keeper.failed


@dataclass(frozen=True)
class _SharedClaim(Claim):
    """A claim on the store and on this machine's folder."""

    here: Claim
    keeper: _Keeper

    def require(self) -> None:
        self.here.require()
        super().require()

    def secure(self) -> None:
        self.keeper.push()

    def kept(self) -> int | None:
        return self.keeper.kept


class _Keeper:
    """Keeps a copy up to date from a thread, until `close`, which waits for the store.

    Attributes:
        kept: bytes of the journal that a later attempt finds.
        failed: why the copy is not up to date; None if it is, or if it is another attempt's by now.
    """

    def __init__(self, copy: Copy, claim: Claim) -> None:
        self.copy, self.kept, self.failed = copy, copy.stored, None
        self._claim, self._lock, self._over = claim, threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="copy-of-run")
        self._thread.start()

    failed: PipelineError | OSError | None

    def push(self) -> None:
        """Brings the copy up to date now, if the store answers."""
        with self._lock:
            try:
                self._claim.require()
                self.copy.push()
                # An attempt that entered meanwhile may have read the list before; one that enters from now on reads this one.
                if self.kept != self.copy.stored and self._claim.board.latest() == self._claim.number:
                    self.kept = self.copy.stored
                self.failed = None
            except TakenOver:
                self.failed = None
            except (PipelineError, OSError) as error:
                if self.failed is None:
                    print(f"not stored yet, and tried again: {error}", file=sys.stderr)
                self.failed = error

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self.push()

    def _follow(self) -> None:
        while not self._over.wait(PUSH_S):
            self.push()
