"""Small vectors between the ranks of one machine, in microseconds.

gloo hands a collective from thread to thread, and waking them takes longer than a small layer's arithmetic. Here the
training's own thread writes to its peers' sockets and looks for their answers until they are there.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

LOOKS_S = 0.01  # for a rank that is later than this, the thread sleeps
PATIENCE_S = 1800  # as gloo's

Rows = NDArray[np.float32]


def gather(*rows: Rows) -> Rows:
    """(W, len(rows), n): the rows (n,) of each of the W ranks, the same on all. Every rank calls it.

    Ranks on several machines, and those of another system than Linux, exchange them by gloo.

    Raises:
        ConnectionError: another rank has ended.
    """
    group = dist.group.WORLD
    assert group is not None
    if group not in _LINKS:
        _LINKS[group] = _connect(dist.get_rank(), dist.get_world_size())
    links = _LINKS[group]
    if links is not None:
        return links.gather(*rows)
    ours = torch.from_numpy(np.concatenate(rows))
    found = torch.empty(dist.get_world_size() * len(ours))
    dist.all_gather_into_tensor(found, ours)
    return found.view(-1, len(rows), len(rows[0])).numpy()


class Links:
    """Sockets to every other rank.

    Args:
        rank: this one's.
        peers: by rank; None at this one's place.
    """

    def __init__(self, rank: int, peers: list[socket.socket | None]) -> None:
        self._rank, self._peers = rank, peers
        for peer in filter(None, peers):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", PATIENCE_S, 0))

    def gather(self, *rows: Rows) -> Rows:
        found = np.empty((len(self._peers), len(rows), len(rows[0])), np.float32)
        ours = found[self._rank]
        for place, row in zip(ours, rows, strict=True):
            place[:] = row
        for peer in self._peers:
            if peer is not None:
                peer.sendall(ours)
        for peer, part in zip(self._peers, found, strict=True):
            if peer is not None:
                _receive(peer, part)
        return found


# By process group: the links go when it goes.
_LINKS: WeakKeyDictionary[dist.ProcessGroup, Links | None] = WeakKeyDictionary()


def _receive(peer: socket.socket, part: Rows) -> None:
    """One message, into `part`."""
    until = time.perf_counter() + LOOKS_S
    while True:
        late = time.perf_counter() > until
        try:
            size = peer.recv_into(part.data, part.nbytes, 0 if late else socket.MSG_DONTWAIT)
            break
        except BlockingIOError:
            if late:
                raise ConnectionError(f"another rank has not answered for {PATIENCE_S} s") from None
            os.sched_yield()  # the rank that is waited for may want this very core
    if size != part.nbytes:
        raise ConnectionError("another rank has ended")


def _connect(rank: int, ranks: int) -> Links | None:
    """Links between all ranks; None where they are not on one machine, or not on Linux."""
    token = torch.tensor(int.from_bytes(os.urandom(7)))
    dist.broadcast(token, 0)
    names = [f"\0pipeline-{int(token):x}-{at}" for at in range(ranks)]  # Linux keeps names with a zero in no folder
    peers: list[socket.socket | None] = [None] * ranks
    here = sys.platform == "linux"
    with _socket() as door:
        if here:
            door.bind(names[rank])
            door.listen(ranks)
        if not _everywhere(here):
            return None
        try:
            for lower in range(rank):
                peers[lower] = peer = _socket()
                peer.connect(names[lower])
                peer.sendall(rank.to_bytes(4))
        except OSError:
            here = False
        if not _everywhere(here):
            return None
        for _ in range(rank + 1, ranks):  # they wait at the door
            peer, _ = door.accept()
            peers[int.from_bytes(peer.recv(4))] = peer
    return Links(rank, peers)


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # whole messages, or none


def _everywhere(here: bool) -> bool:
    """Whether it is so on every rank."""
    told = torch.tensor(int(here))
    dist.all_reduce(told, dist.ReduceOp.MIN)
    return bool(told)
