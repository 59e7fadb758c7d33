"""Which rank this process is, and the ranks that another launcher has made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from pytorch_lightning.strategies import Strategy
from pytorch_lightning.utilities.rank_zero import rank_zero_only

_LIGHTNING: Any = rank_zero_only  # a function with the attribute `rank`, which types cannot say


def rank() -> int:
    """Global rank; 0 where nothing has launched others."""
    return _LIGHTNING.rank


def set_rank(value: int) -> None:
    """For launchers that Lightning does not know until it builds its Trainer."""
    _LIGHTNING.rank = value


@dataclass(frozen=True)
class Launched:
    """Ranks that another launcher (Ray) has made, as Lightning takes them."""

    strategy: Strategy
    plugins: tuple[Any, ...] = ()


def learn_rank(devices: int) -> None:
    """Sets this process's rank where torchrun or Slurm started one process a machine.

    Lightning counts machines when it builds its Trainer; until then it takes each one's first rank for zero.
    """
    if "RANK" not in os.environ and "NODE_RANK" in os.environ:
        set_rank(int(os.environ["NODE_RANK"]) * devices + int(os.environ.get("LOCAL_RANK", "0")))
