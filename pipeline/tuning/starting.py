"""Trials that start on one machine take turns, a core each.

What a trial imports takes seconds of a core. Where more trials than cores start at once, none would train until all had imported;
by turns the first ones train while the others wait.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PATIENCE_S = 60.0  # then a trial starts without a turn: it may only lose time
LOOK_S = 0.05


@contextmanager
def turn(what: str = "start", cores: int = 0, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """The block, in at most `cores` processes of this user and machine at once; 0 for the cores there are.

    A seat is a name of Linux's abstract sockets, which is free again when its process ends.
    """
    with socket.socket(socket.AF_UNIX) as seat:
        until = time.monotonic() + patience_s
        while not _seated(seat, what, cores or len(os.sched_getaffinity(0))) and time.monotonic() < until:
            time.sleep(LOOK_S)
        yield


def _seated(seat: socket.socket, what: str, cores: int) -> bool:
    for number in range(cores):
        with suppress(OSError):
            seat.bind(f"\0resnet-pipeline-{os.getuid()}-{what}-{number}")
            return True
    return False
