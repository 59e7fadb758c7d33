"""What this project promises under faults and bad input, tried: `make reliability`.

Each module with a function `campaign(seed, scratch)` makes many faults or inputs of one kind from the seed, runs the real
thing on each, and yields an `Outcome` each. Its first docstring line names the kind, its constant PROMISE says how each has to end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Outcome:
    """How one fault or input ended."""

    name: str  # as a person would name it, with what reproduces it
    ok: bool  # ended as promised
    detail: str = ""  # what happened instead
    row: str = ""  # of the table, where a campaign has several


class Campaign(Protocol):
    PROMISE: str | Mapping[str, str]  # of all rows, or by row

    def campaign(self, seed: int, scratch: Path) -> Iterator[Outcome]:
        """One outcome a fault.

        Args:
            seed: decides every fault.
            scratch: an empty folder, removed afterwards.
        """
        ...
