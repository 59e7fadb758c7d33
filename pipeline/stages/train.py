"""train: the one run that data, model, recipe and seed name, whatever sweep.search chooses for the sweep's trials."""

from __future__ import annotations

from dataclasses import replace

from pipeline.atomic import write_json
from pipeline.config import Config
from pipeline.learn.training.divergence import DivergedError
from pipeline.record import Net
from pipeline.run import Interrupted
from pipeline.run.debug import debug
from pipeline.run.fit import fit
from pipeline.run.launch import rank, reports
from pipeline.run.meeting import RefusedByRankZero, SilentRanks
from pipeline.run.run import run_name
from pipeline.run.sources import anchored
from pipeline.tracking.lineage import source
from pipeline.workspace import Workspace

SCALARS = ("val_err1", "steps", "seconds")  # what `dvc exp show` compares; train.json has the rest


def run(config: Config, workspace: Workspace) -> None:
    try:
        if config.trainer.debug:
            debug(_anchored(config, workspace), workspace.store(config.data.name), workspace.trace)
            return
        net = _train(_anchored(config, workspace), workspace)
    except (Interrupted, DivergedError, RefusedByRankZero) as error:
        # All ranks raise these together. The others end without an error, or launchers would kill rank zero before it
        # has informed MLflow and the user. An elastic torchrun lets the machines of those that end without one go for good,
        # and kills only ranks of its own machine.
        goes_on = config.trainer.elastic and not isinstance(error, DivergedError)
        if rank() == 0 or (reports() and (goes_on or isinstance(error, SilentRanks))):
            raise
        return
    if rank() == 0:
        write_json(workspace.result("train"), net.to_json())
        write_json(workspace.scalars("train"), {key: getattr(net, key) for key in SCALARS}, checksum=False)
        shown = "error none (no validation split)"
        if net.val_err1 is not None:
            shown = f"{net.model.score(net.val_err1)} at step {net.step:,}"
        print(f"{run_name(config)}: {net.steps:,} steps, validation {shown}, run {net.key}")


def _anchored(config: Config, workspace: Workspace) -> Config:
    return replace(config, start=replace(config.start, weights=anchored(config.start.weights, workspace)))


def _train(config: Config, workspace: Workspace) -> Net:
    store, tags = workspace.store(config.data.name), source(workspace.root)
    if config.trainer.launcher != "ray":
        return fit(config, store, tags=tags)
    from pipeline.tuning.ranks import fit_on_ray  # here, since other trainings need no Ray

    return fit_on_ray(config, store, tags)
