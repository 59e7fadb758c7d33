"""train: the one run that data, model, recipe and seed name."""

from __future__ import annotations

from dataclasses import asdict, replace

from pipeline.atomic import write_json
from pipeline.config import Config
from pipeline.data.store import open_store
from pipeline.learn.training.classifier import DivergedError
from pipeline.run.attempt import FitResult
from pipeline.run.launch import launch
from pipeline.run.ranks import rank
from pipeline.run.start import anchored
from pipeline.run.stop import Interrupted
from pipeline.tracking.lineage import lineage
from pipeline.workspace import Workspace

SCALARS = ("val_err1", "val_err5", "best_step", "steps", "seconds", "images_per_s")  # what `dvc exp show` compares


def run(config: Config, workspace: Workspace) -> None:
    try:
        result = _launch(config, workspace)
    except (Interrupted, DivergedError):
        # All ranks raise these together, and rank zero has MLflow and the user to tell yet: launchers kill it when
        # another rank ends with an error.
        if rank() == 0:
            raise
        return
    if rank() == 0:
        facts = asdict(result)
        del facts["folder"]  # another clone's is elsewhere
        write_json(workspace.result("train"), facts)
        write_json(workspace.scalars("train"), {key: facts[key] for key in SCALARS})
        error = (
            "none (no validation split)"
            if result.val_err1 is None
            else f"{100 * result.val_err1:.2f} % at step {result.best_step:,}"
        )
        print(f"{result.name}: {result.steps:,} steps, validation error {error}, run {result.key}")


def _launch(config: Config, workspace: Workspace) -> FitResult:
    start = replace(config.start, weights=anchored(config.start.weights, workspace.root))
    config = replace(config, start=start)
    store, tags = workspace.store(config.data.name), lineage(workspace.root)
    if config.trainer.launcher != "ray":
        return launch(config, store, tags)
    # Imported here: training needs no Ray.
    from pipeline.tuning.ranks import fit_on_ray

    train, _ = open_store(store).split_indices(config.data.split, config.data.num_train)
    return fit_on_ray(config, store, tags, len(train) // config.recipe.batch_size)
