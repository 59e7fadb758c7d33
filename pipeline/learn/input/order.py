"""Random choices as pure functions of (seed, epoch, sample).

A resumed run therefore sees the same images in the same order, cropped and flipped the same way, as does a run with any
number of workers or ranks.
"""

from __future__ import annotations

import numpy as np

_ORDER, _DRAWS, _NOISE = 0, 1, 2  # independent streams of one seed


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch, stream])))


def permutation(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """(num_samples,) int64: the order of an epoch, as positions in the training split."""
    return _generator(seed, epoch, _ORDER).permutation(num_samples)


def draws(num_records: int, width: int, seed: int, epoch: int) -> np.ndarray:
    """(num_records, width) float32 in [0, 1): row i belongs to record i, whatever the split or the order."""
    return _generator(seed, epoch, _DRAWS).random((num_records, width), dtype=np.float32)


def noise_seed(seed: int, step: int, rank: int) -> int:
    """Seed of the dropout masks of a step; ranks hold different images, so each has its own."""
    return int(np.random.SeedSequence([seed, step, rank, _NOISE]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def batch_slice(batch: int, batch_size: int, rank: int, world_size: int) -> slice:
    """The rank's part of global batch number `batch` of an epoch: a contiguous slice of the permutation."""
    share = batch_size // world_size
    start = batch * batch_size + rank * share
    return slice(start, start + share)
