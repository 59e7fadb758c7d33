"""Which rank this process is, as Lightning knows it."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.utilities.rank_zero import rank_zero_only

_LIGHTNING: Any = rank_zero_only  # a function with the attribute `rank`, which types cannot say


def rank() -> int:
    """Global rank; 0 where nothing has launched others."""
    return _LIGHTNING.rank


def set_rank(value: int) -> None:
    """For launchers that Lightning does not know until it builds its Trainer."""
    _LIGHTNING.rank = value
