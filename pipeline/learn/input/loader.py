"""Loaders that Lightning iterates: one rank's batches, in the order that (seed, epoch) determines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np

from pipeline.errors import PipelineError
from pipeline.learn.input import order

Fetch = Callable[[np.ndarray, np.ndarray | None], Any]  # (record indices, their draws) -> a batch


class Batches(Protocol):
    """Makes batches; see `pipeline.learn.input.batches`."""

    width: int  # draws a sample
    mixes: bool  # whether an image is mixed with the one before it in the global batch, which then is fetched too
    ahead: int  # batches that threads prepare beyond the one in use; 0 prepares in the caller's thread

    def fetch(self, indices: np.ndarray, draws: np.ndarray | None) -> Any: ...


@dataclass(frozen=True)
class Share:
    """The part of the images that one rank handles."""

    rank: int = 0
    world_size: int = 1


ALL = Share()


class TrainLoader:
    """Endless epochs of shuffled batches; a mid-epoch position is saved and restored with the checkpoint.

    Images left over after the last full batch of an epoch are skipped; each epoch skips different ones.

    Args:
        indices: (n,) int64, the split's record indices.
        num_records: of the whole training set; each record has its row of draws, whatever the split.
        batch_size: global, over all ranks.
        parts: of a batch, each of which ranks share out among them. Of several, a batch is the tensors of one after those of
            the other.
    """

    def __init__(
        self,
        indices: np.ndarray,
        num_records: int,
        batch_size: int,
        seed: int,
        batches: Batches,
        share: Share = ALL,
        parts: int = 1,
    ) -> None:
        if len(indices) < batch_size:
            raise PipelineError(
                f"recipe.batch_size={batch_size} is larger than the {len(indices)} training images; choose a smaller one"
            )
        self._indices, self._num_records, self._seed = indices, num_records, seed
        self._batch_size, self._batches, self._share, self._parts = batch_size, batches, share, parts
        self.position = 0  # batches served since the first epoch began

    def __len__(self) -> int:
        return len(self._indices) // self._batch_size

    def __iter__(self) -> Iterator[Any]:
        epoch, start = divmod(self.position, len(self))
        permuted = self._permuted(epoch)
        draws = order.draws(self._num_records, self._batches.width, self._seed, epoch)

        def make(batch: int) -> Any:
            parts = [permuted[self._places(batch * self._parts + part)] for part in range(self._parts)]
            fetched = [self._batches.fetch(rows, draws[rows]) for rows in parts]
            return fetched[0] if len(fetched) == 1 else [*chain.from_iterable(fetched)]

        for batch in _prefetched(make, range(start, len(self)), self._batches.ahead):
            self.position += 1
            yield batch

    def _places(self, part: int) -> np.ndarray:
        """The rank's places in an epoch's order; the first is that of the image before its own, if images are mixed.

        The one before the first image of all ranks' part is its last, so that all mix with images of the part.

        Args:
            part: number of the part of a batch, since the epoch began.
        """
        size = self._batch_size // self._parts
        own = order.batch_slice(part, size, self._share.rank, self._share.world_size)
        first, places = part * size, np.arange(own.start, own.stop)
        before = first + (own.start - 1 - first) % size
        return np.append(before, places) if self._batches.mixes else places

    def images(self, position: int) -> np.ndarray:
        """(batch_size,) record indices of all ranks' batch number `position` since the first epoch began."""
        epoch, batch = divmod(position, len(self))
        return self._permuted(epoch)[order.batch_slice(batch, self._batch_size, 0, 1)]

    def _permuted(self, epoch: int) -> np.ndarray:
        return self._indices[order.permutation(len(self._indices), self._seed, epoch)]

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class EvalLoader:
    """Every record once, in order; ranks take turns, and no image is repeated to make the shares equal."""

    def __init__(self, indices: np.ndarray, batch_size: int, fetch: Fetch, ahead: int = 0, share: Share = ALL) -> None:
        self._indices, self._fetch, self._ahead = indices[share.rank :: share.world_size], fetch, ahead
        # All ranks must run the same number of batches: at least one, even an empty one.
        self._count = max(1, -(-len(indices) // (batch_size * share.world_size)))
        self._batch_size = batch_size

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        def make(batch: int) -> Any:
            return self._fetch(self._indices[batch * self._batch_size : (batch + 1) * self._batch_size], None)

        return _prefetched(make, range(len(self)), self._ahead)


def _prefetched(make: Callable[[int], Any], batches: range, ahead: int) -> Iterator[Any]:
    if not ahead:
        yield from map(make, batches)
        return
    pool, waiting = ThreadPoolExecutor(ahead, thread_name_prefix="batches"), deque[Future]()
    try:
        for batch in batches:
            waiting.append(pool.submit(make, batch))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
