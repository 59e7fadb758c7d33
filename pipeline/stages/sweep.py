"""sweep: Ray Tune over sweep.space; each trial is the same training that the train stage runs."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.training.start import anchored
from pipeline.tuning.leaderboard import show, write
from pipeline.tuning.tuner import tune_sweep
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    board = tune_sweep(anchored(config, workspace.root), workspace.store(config.data.name), workspace.root)
    write(board, workspace.leaderboard)
    show(board)
