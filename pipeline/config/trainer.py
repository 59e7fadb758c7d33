"""trainer.*: where and how training runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.config.section import Section, require


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(Section):
    """Where and how training runs; beyond rounding, only what `training.key` names changes what is learnt."""

    accelerator: Literal["auto", "cpu", "gpu"]
    devices: int  # ranks a node
    num_nodes: int
    launcher: Literal["auto", "ray"]  # auto: torchrun, Slurm or Lightning's own subprocesses, as the environment says
    threads: int  # torch threads a rank; 0 leaves torch's choice
    channels_last: bool
    compile: bool | Literal["auto"]  # torch.compile, for training; auto: where it was measured to be faster
    steps_per_call: int  # optimiser steps a call by Lightning; 0: 1 on a CPU, 25 on a GPU, as CUDA graphs
    sync_batchnorm: bool  # statistics over the global batch; false: per rank, as the paper's GPUs did
    val_every_epochs: int
    log_every_steps: int
    checkpoint_every_steps: int  # beside one at each epoch's end; 0 for none

    def __post_init__(self) -> None:
        for key in ("devices", "num_nodes", "val_every_epochs", "log_every_steps"):
            require(getattr(self, key) > 0, f"trainer.{key}={getattr(self, key)}; it must be at least 1")
        require(
            self.steps_per_call >= 0,
            f"trainer.steps_per_call={self.steps_per_call}; give a number of steps, or 0 for what suits the hardware",
        )
        require(self.threads >= 0, f"trainer.threads={self.threads}; give a count, or 0 for torch's choice")
        require(
            self.checkpoint_every_steps >= 0,
            f"trainer.checkpoint_every_steps={self.checkpoint_every_steps}; give a number of steps, or 0 for none inside an epoch",
        )

    @property
    def world_size(self) -> int:
        return self.devices * self.num_nodes
