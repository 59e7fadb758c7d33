"""adopt: weights that this project did not make become a run in MLflow that may join an ensemble."""

from __future__ import annotations

from dataclasses import replace

from pipeline.config import Config
from pipeline.ensemble.adopted import adopt
from pipeline.ensemble.members import Source
from pipeline.run.sources import anchored
from pipeline.tracking.lineage import lineage
from pipeline.workspace import Workspace

POOR = 0.5  # of the error of guessing; a trained net above it takes other pixels or has another wiring


def run(config: Config, workspace: Workspace) -> None:
    start = replace(config.start, weights=anchored(config.start.weights, workspace))
    source = Source.configured(config, workspace.store(config.data.name))
    made = adopt(replace(config, start=start), source, lineage(workspace.root))
    print(f"{made.name}: validation error {100 * made.val_err1:.2f} %, run {made.net.key}")
    if made.val_err1 > POOR * (1 - 1 / made.net.num_classes):
        print(
            "This error is high for a trained net. Check how its maker normalised the pixels "
            f"(recipe.normalize={config.recipe.normalize}) and wired the net (model.shortcut_zeros="
            f"{config.model.shortcut_zeros}, model.stride_on={config.model.stride_on}); most public CIFAR nets with option A "
            "shortcuts put the zeros around"
        )
    if config.data.split == "full":
        print(
            "data.split=full: the net counts as trained on the validation images, so no selection chooses it; "
            "ensemble=listed can list it, evaluation.runs=all tests it"
        )
    else:
        print(
            "The net counts as trained without the validation images; if it was trained on them, adopt it with "
            "data.split=full"
        )
