"""What an ensemble's members say together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.ensemble.folder import Member
from pipeline.ensemble.temperature import tempered


def averages(members: Sequence[Member], said: Sequence[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """(N, K) weighted mean of the first member, of the first two, and so on to the whole ensemble; summed in float64.

    Args:
        members: with weights.
        said: (M,) arrays (N, K): each member's probabilities.
    """
    total, weight = np.zeros(said[0].shape), 0.0
    for member, values in zip(members, said, strict=True):
        total += tempered(values, member.temperature) * np.float64(member.weight or 0.0)
        weight += member.weight or 0.0
        yield (total / weight).astype(np.float32)
