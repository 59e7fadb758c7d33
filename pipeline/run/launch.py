"""The rank of this process, and ranks that another launcher has made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.strategies import Strategy
from pytorch_lightning.utilities.rank_zero import rank_zero_only

_LIGHTNING: Any = rank_zero_only  # a function with the attribute `rank`, which types cannot say


def rank() -> int:
    """Global rank; 0 for a process alone."""
    return _LIGHTNING.rank


def set_rank(value: int) -> None:
    """For launchers that Lightning detects only when it builds its Trainer."""
    _LIGHTNING.rank = value


def processors(ranks: int, gpus: bool) -> str:
    """What a training runs on: 2 threads, 4 ranks of 1 thread, 8 GPUs."""
    if gpus:
        return "1 GPU" if ranks == 1 else f"{ranks} GPUs"
    threads = torch.get_num_threads()
    each = "1 thread" if threads == 1 else f"{threads} threads"
    return each if ranks == 1 else f"{ranks} ranks of {each}"


@dataclass(frozen=True)
class Launched:
    """Ranks that another launcher (Ray) has made, in the form that Lightning takes."""

    strategy: Strategy
    plugins: tuple[Any, ...] = ()


def learn_rank(devices: int) -> None:
    """Sets this process's rank when one process a machine was started, each with its NODE_RANK.

    Lightning reads NODE_RANK only when it builds its Trainer; until then each machine's first rank counts as zero.
    """
    if "RANK" not in os.environ and "NODE_RANK" in os.environ:
        set_rank(int(os.environ["NODE_RANK"]) * devices + int(os.environ.get("LOCAL_RANK", "0")))
