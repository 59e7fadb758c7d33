"""How ranks come about without Ray: in this process, or by Lightning, torchrun or Slurm."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.config import Config
from pipeline.run.attempt import FitResult
from pipeline.run.fit import fit
from pipeline.run.ranks import set_rank
from pipeline.run.recorder import Report


def launch(config: Config, store: Path, tags: dict[str, str], report: Report | None = None) -> FitResult:
    """`fit` on trainer.devices x trainer.num_nodes ranks: those that torchrun or Slurm started, else subprocesses."""
    if "RANK" not in os.environ and "NODE_RANK" in os.environ:
        # Lightning counts machines when it builds its Trainer; until then it takes each one's first rank for zero.
        first = int(os.environ["NODE_RANK"]) * config.trainer.devices
        set_rank(first + int(os.environ.get("LOCAL_RANK", "0")))
    return fit(config, store, tags=tags, report=report)
