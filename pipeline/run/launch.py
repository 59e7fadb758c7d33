"""The rank of this process, and ranks that another launcher has made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from pytorch_lightning.strategies import Strategy
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from pipeline.config import TrainerConfig
from pipeline.errors import PipelineError, printable
from pipeline.learn.training.precision import uses_cuda
from pipeline.run.address import agent_store, require_reachable
from pipeline.run.meeting import Meeting

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
    meeting: Meeting | None = None  # None for a process alone

    def decide(self, make: Callable[[], Any]) -> Any:
        """See `Meeting.decide`."""
        return self.meeting.decide(make) if self.meeting else make()

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Around rank zero's decisions: what it raises ends the other ranks as well."""
        try:
            yield
        except BaseException as error:
            if self.meeting is not None:
                self.meeting.refuse(error)
            raise

    def part(self) -> None:
        """See `Meeting.part`."""
        if self.meeting is not None:
            self.meeting.part()

    def quit(self, sentence: str) -> None:
        """See `Meeting.quit`."""
        if self.meeting is not None:
            self.meeting.quit(sentence)


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


def present(trainer: TrainerConfig) -> TrainerConfig:
    """`trainer` with as many nodes as there are just now, where trainer.elastic lets torchrun change their number.

    Raises:
        PipelineError: ranks are to meet at a store of torchrun. Its first agent names that store's address in its first round
            only (torch 2.15), so a machine that comes back waits for it in vain, and ends the training.
    """
    if not trainer.elastic or trainer.launcher != "torchrun":
        return trainer
    if agent_store():
        raise PipelineError(
            "trainer.elastic=true, and torchrun serves the ranks' store, at which no machine can come back; start torchrun with "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment and --rdzv-backend=c10d"
        )
    return replace(trainer, num_nodes=max(1, _number("WORLD_SIZE") // trainer.devices))


def launch(trainer: TrainerConfig) -> Launched:
    """This process's place among the ranks, see `join_ranks`, and where they meet.

    Raises:
        PipelineError: this machine has fewer GPUs than ranks, or its address leads to itself; see also `join_ranks`.
    """
    environment = join_ranks(trainer)
    if trainer.world_size == 1:
        return Launched(plugins=(environment,))
    if cuda := uses_cuda(trainer.accelerator):
        _require_gpus(trainer.devices)
    require_reachable(trainer.num_nodes, gloo=not cuda)
    # Lightning starts a machine's other ranks later, from its first.
    apart = trainer.devices if trainer.launcher == "lightning" else 1
    meeting = Meeting(
        environment.main_address,
        environment.main_port,
        rank(),
        trainer.world_size,
        started=range(apart, trainer.world_size, apart),
        serve=not agent_store(),
    )
    return Launched(plugins=(environment,), meeting=meeting)


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


def _require_gpus(ranks: int) -> None:
    if (gpus := torch.cuda.device_count()) < ranks:
        visible = printable(os.environ.get("CUDA_VISIBLE_DEVICES", "unset"))
        raise PipelineError(
            f"trainer.devices={ranks}, and this process sees {gpus} of its machine's GPUs (CUDA_VISIBLE_DEVICES: {visible}); let "
            "it see as many as there are ranks (under Slurm, leave out --gpus-per-task, --ntasks-per-gpu and --gpu-bind), or "
            f"start fewer ranks a machine (override: trainer.devices={gpus})"
        )


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
