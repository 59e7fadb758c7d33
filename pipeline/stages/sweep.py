"""sweep: runs sweep.search, if there is one, and sweep.space with Ray Tune; a trial is the train stage's own training."""

from __future__ import annotations

from dataclasses import replace

from pipeline.atomic import write_json
from pipeline.config import Config
from pipeline.run.sources import anchored
from pipeline.tuning.leaderboard import show
from pipeline.tuning.space import mapped
from pipeline.tuning.tuner import tune_sweep
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    config = located(config, workspace)
    if config.data.split != "holdout":
        print(
            "sweep: trials train on data.split=holdout, because a sweep compares them on validation images; "
            f"data.split={config.data.split}, which has none, is for `pipeline train`"
        )
    board = tune_sweep(config, workspace.store(config.data.name), workspace.root)
    write_json(workspace.leaderboard, board)
    show(board, config.model)


def located(config: Config, workspace: Workspace) -> Config:
    """`config` with the weights that trials start from by their full paths, which are part of the sweep's name."""
    start = replace(config.start, weights=anchored(config.start.weights, workspace))
    space = mapped(config.sweep.space, "start.weights", lambda weights: anchored(weights, workspace))
    return replace(config, start=start, sweep=replace(config.sweep, space=space))
