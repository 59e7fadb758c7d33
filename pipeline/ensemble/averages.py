"""What an ensemble's members say together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.ensemble.folder import Member
from pipeline.ensemble.selection import running_averages
from pipeline.ensemble.temperature import tempered


def averages(members: Sequence[Member], said: Sequence[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """(N, K) weighted mean of the first member, of the first two, and so on to the whole ensemble.

    Args:
        members: with weights.
        said: (M,) arrays (N, K): each member's probabilities.
    """
    pairs = zip(members, said, strict=True)
    yield from running_averages(
        (tempered(values, member.temperature) for member, values in pairs), [member.weight or 0.0 for member in members]
    )
