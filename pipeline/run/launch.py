"""The rank of this process, and ranks that another launcher has made."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy, Strategy
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


class PrivateDDP(DDPStrategy):
    """Ranks that listen on no more interfaces than they need: on one machine, the loopback alone.

    They meet at a store on rank 0, which torch binds to all interfaces and which asks for no password. Stores that torchrun
    or Ray make are theirs.
    """

    _store: Any = None

    def setup_distributed(self) -> None:
        if self.num_nodes == 1 and "lo" in [name for _, name in socket.if_nameindex()]:
            for library in ("GLOO", "NCCL"):  # their own connections; by default those of the host's name
                os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")
        self.set_world_ranks()
        if self.global_rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            assert self.cluster_environment is not None
            with suppress(OSError):  # no address of this machine, behind a translator for example: torch binds to all
                self._store = _store_at(self.cluster_environment.main_address, self.cluster_environment.main_port)
        super().setup_distributed()


def _store_at(host: str, port: int) -> Any:
    """A store that listens at this address alone. torch uses it for the process group, since servers of a port are shared."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(socket.SOMAXCONN)
        return torch.distributed.TCPStore(
            host, port, is_master=True, wait_for_workers=False, multi_tenant=True, master_listen_fd=listening.detach()
        )
