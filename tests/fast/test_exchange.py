from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
from processes import FORKS, PATIENCE_S, free_port

from pipeline.fast import exchange

RANKS = 3


def rows(rank: int, turn: int) -> list[np.ndarray]:
    return [np.arange(4, dtype=np.float32) + 10 * rank + 100 * turn, np.full(4, -rank, np.float32)]


def of_rank(rank: int, port: int, results: Any, before: Callable[[int], None]) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)
    before(rank)
    found: list[Any] = []
    try:
        for turn in range(3):
            if turn and before is leaving and rank == 2:
                break
            found.append(exchange.gather(*rows(rank, turn)))
    except ConnectionError as error:
        found.append(str(error))
    linked = exchange._LINKS[dist.group.WORLD] is not None
    results.put((rank, linked, found))


def nothing(rank: int) -> None:
    pass


def late(rank: int) -> None:
    time.sleep(5 * exchange.LOOKS_S * rank)


def leaving(rank: int) -> None:
    """Rank 2 ends after its first turn."""


def elsewhere(rank: int) -> None:
    """Rank 1 finds no other, as on another machine."""
    if rank == 1:
        exchange._socket = lambda: _Unreachable(exchange.socket.AF_UNIX, exchange.socket.SOCK_SEQPACKET)


class _Unreachable(exchange.socket.socket):
    def connect(self, address: Any) -> None:
        raise ConnectionRefusedError


def gathered(before: Callable[[int], None]) -> dict[int, tuple[bool, list[Any]]]:
    results, port = FORKS.Queue(), free_port()
    processes = [
        FORKS.Process(target=of_rank, args=(rank, port, results, before), daemon=True) for rank in range(RANKS)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=PATIENCE_S) for _ in processes]
    for process in processes:
        process.join(PATIENCE_S)
    return {rank: (linked, turns) for rank, linked, turns in found}


@pytest.mark.parametrize("before", [nothing, late, elsewhere])
def test_every_rank_has_the_rows_of_all_in_their_order(before: Callable[[int], None]) -> None:
    found = gathered(before)
    for linked, turns in found.values():
        assert linked is (before is not elsewhere and sys.platform == "linux")
        for turn, values in enumerate(turns):
            np.testing.assert_array_equal(values, [rows(rank, turn) for rank in range(RANKS)])
    assert [len(turns) for _, turns in found.values()] == [3] * RANKS


@pytest.mark.skipif(sys.platform != "linux", reason="gloo tells it in its own words")
def test_a_rank_that_has_ended_is_told_to_the_others() -> None:
    found = gathered(leaving)
    assert len(found[2][1]) == 1
    for rank in (0, 1):
        assert isinstance(found[rank][1][-1], str)
