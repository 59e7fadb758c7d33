"""adopt: weights that this project did not make, as a run in MLflow that may join an ensemble."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.config import Config
from pipeline.ensemble.adopted import adopt
from pipeline.tracking.lineage import lineage
from pipeline.tracking.store import locate
from pipeline.training.start import anchored
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    location = locate(config.tracking.uri, config.paths.mlruns)
    store = workspace.store(config.data.name)
    start = replace(config.start, weights=anchored(config.start.weights, workspace.root))
    made = adopt(replace(config, start=start), store, Path(config.paths.runs), location, lineage(workspace.root))
    print(f"{made.name}: validation error {100 * made.val_err1:.2f} %, run {made.key}")
    if config.data.split == "full":
        print("it has seen the validation images (data.split=full): evaluation.runs=all tests it, nothing chooses it")
    else:
        print("it counts as made without the validation images; if it has seen them, adopt it with data.split=full")
