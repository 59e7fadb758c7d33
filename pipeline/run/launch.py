"""The rank of this process, and ranks that another launcher has made."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from pipeline.config import TrainerConfig
from pipeline.errors import PipelineError, printable
from pipeline.run.silent import SignsOfLife

_LIGHTNING: Any = rank_zero_only  # a function with the attribute `rank`, which types cannot say


def rank() -> int:
    """Global rank; 0 for a process alone."""
    return _LIGHTNING.rank


def reports() -> bool:
    """Whether this rank tells the user what ended a training that lost ranks: one a machine does."""
    return rank() == 0 or os.environ.get("LOCAL_RANK", "0") == "0"


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
    """Ranks in the form that Lightning takes; with the strategy by which Ray's meet."""

    strategy: Strategy | None = None
    plugins: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Launcher:
    """A command that starts every rank, and the variables in which it says which rank a process is."""

    command: str
    node: str
    local: str
    ranks: str


_LAUNCHERS = {
    "torchrun": _Launcher("torchrun", "GROUP_RANK", "LOCAL_RANK", "WORLD_SIZE"),
    "slurm": _Launcher("srun", "SLURM_NODEID", "SLURM_LOCALID", "SLURM_NTASKS"),
}
_MACHINE = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "GROUP_RANK", "TORCHELASTIC_USE_AGENT_STORE")
_PARENT = "PIPELINE_RANKS_OF"  # id of the process for which Lightning starts ranks


def join_ranks(trainer: TrainerConfig) -> LightningEnvironment:
    """Sets this process's rank by what trainer.launcher says; returns the ranks in the form that Lightning takes.

    Variables of other launchers do not count: a trial of Ray inside a job of Slurm is no rank of that job.

    Raises:
        PipelineError: the launcher did not start this process, or it started another number of ranks.
    """
    if trainer.launcher in _LAUNCHERS:
        _join_started(trainer, _LAUNCHERS[trainer.launcher])
    elif os.environ.get(_PARENT) != str(os.getppid()):  # else Lightning started this rank for its parent
        _become_parent(trainer)
    set_rank(_number("NODE_RANK") * trainer.devices + _number("LOCAL_RANK"))
    return LightningEnvironment()  # which reads the variables that are set here


def _join_started(trainer: TrainerConfig, by: _Launcher) -> None:
    if missing := [name for name in (by.node, by.local, by.ranks) if name not in os.environ]:
        raise PipelineError(
            f"trainer.launcher={trainer.launcher}, but {by.command} did not start this process ({missing[0]} is not in its "
            f"environment); start it by {by.command}, or leave trainer.launcher as it is (override: trainer.launcher=lightning)"
        )
    if (ranks := _number(by.ranks)) != trainer.world_size or _number(by.local) >= trainer.devices:
        raise PipelineError(
            f"{by.command} started {ranks} ranks, at least {_number(by.local) + 1} on this machine; trainer.num_nodes="
            f"{trainer.num_nodes} times trainer.devices={trainer.devices} a machine must be the same"
        )
    os.environ.update(NODE_RANK=os.environ[by.node], LOCAL_RANK=os.environ[by.local])
    if trainer.launcher == "slurm":
        _forget("TORCHELASTIC_USE_AGENT_STORE")
        first = SLURMEnvironment.resolve_root_node_address(os.environ.get("SLURM_JOB_NODELIST", "127.0.0.1"))
        os.environ.setdefault("MASTER_ADDR", first)
        # Jobs that share a machine meet at different ports.
        os.environ.setdefault("MASTER_PORT", str(15000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 10000))


def _become_parent(trainer: TrainerConfig) -> None:
    """Prepares for ranks that Lightning starts on this machine."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise PipelineError(
            "torchrun started this process, and trainer.launcher=lightning starts ranks of its own; choose one of them "
            "(override: trainer.launcher=torchrun)"
        )
    _forget(*_TORCHRUN)  # left by an earlier training in this process, or not meant for it
    if trainer.num_nodes == 1:
        _forget(*_MACHINE)
    elif missing := [name for name in _MACHINE if name not in os.environ]:
        raise PipelineError(
            f"trainer.num_nodes={trainer.num_nodes} needs {', '.join(missing)} in the environment of each machine; set them, "
            "or let torchrun, srun or Ray start the ranks (override: trainer.launcher=torchrun, slurm or ray)"
        )
    os.environ[_PARENT] = str(os.getpid())


def _forget(*variables: str) -> None:
    for name in variables:
        os.environ.pop(name, None)


def _number(variable: str) -> int:
    """The variable's value; 0 without it."""
    value = os.environ.get(variable, "0")
    if not value.isdecimal():
        raise PipelineError(
            f"{variable}={printable(value)} in the environment; it must be a number, the launcher sets it"
        )
    return int(value)


class PrivateDDP(DDPStrategy):
    """Ranks that listen on no more interfaces than they need: on one machine, the loopback alone.

    They meet at a store on rank 0, which torch binds to all interfaces and which asks for no password. Stores that torchrun
    or Ray make are theirs.
    """

    _store: Any = None
    signs: SignsOfLife | None = None  # once the ranks have met

    def setup_distributed(self) -> None:
        if self.num_nodes == 1 and "lo" in [name for _, name in socket.if_nameindex()]:
            for library in ("GLOO", "NCCL"):  # their own connections; by default those of the host's name
                os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")
        self.set_world_ranks()
        assert self.cluster_environment is not None and self._timeout is not None
        if self.global_rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            self._store = _store_at(self.cluster_environment.main_address, self.cluster_environment.main_port)
        self.signs = SignsOfLife(
            self.cluster_environment.main_address,
            self.cluster_environment.main_port,
            self.global_rank,
            self.world_size,
            self._timeout.total_seconds(),
        )
        super().setup_distributed()


def _store_at(host: str, port: int) -> Any:
    """A store that listens at this address alone, or at all where it is not this machine's, behind a translator for example.

    torch uses it for the process group, since servers of a port are shared.
    """
    alone: dict[str, Any] = {}
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as listening, suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(socket.SOMAXCONN)
        alone = {"master_listen_fd": listening.detach()}
    return torch.distributed.TCPStore(host, port, is_master=True, wait_for_workers=False, multi_tenant=True, **alone)
