"""adopt: weights that this project did not make, as a run in MLflow that may join an ensemble."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.config import Config
from pipeline.ensemble.adopted import adopt
from pipeline.run.start import anchored
from pipeline.tracking.lineage import lineage
from pipeline.tracking.location import locate
from pipeline.workspace import Workspace

POOR = 0.5  # of what guessing errs: a trained net that errs more was trained to see, or wired, otherwise


def run(config: Config, workspace: Workspace) -> None:
    location = locate(config.tracking.uri, config.paths.mlruns)
    store = workspace.store(config.data.name)
    start = replace(config.start, weights=anchored(config.start.weights, workspace.root))
    made = adopt(replace(config, start=start), store, Path(config.paths.runs), location, lineage(workspace.root))
    print(f"{made.name}: validation error {100 * made.val_err1:.2f} %, run {made.key}")
    if made.val_err1 > POOR * (1 - 1 / made.num_classes):
        print(
            "a trained net errs less: its maker may have normalised the pixels otherwise "
            f"(recipe.normalize={config.recipe.normalize}) or wired it otherwise (model.shortcut_zeros="
            f"{config.model.shortcut_zeros}, model.stride_on={config.model.stride_on}; public CIFAR nets of option A mostly "
            "have zeros around)"
        )
    if config.data.split == "full":
        print(
            "it has seen the validation images (data.split=full): nothing chooses it, ensemble=listed takes it where it is "
            "listed, evaluation.runs=all tests it"
        )
    else:
        print("it counts as made without the validation images; if it has seen them, adopt it with data.split=full")
