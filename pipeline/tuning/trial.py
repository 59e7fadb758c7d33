"""One trial: `fit` with a changed configuration, reporting to Ray Tune; what it needs of the cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import Config, from_dict, with_overrides
from pipeline.tuning.cluster import on_gpus
from pipeline.tuning.space import chosen


def trial_config(config: Config, point: dict[str, Any]) -> Config:
    """`config` with a trial's choices; several ranks are launched by Ray, which owns the trial's resources.

    A trial trains on the holdout split whatever data.split says: a sweep selects on validation images, and full has none.
    """
    changed = with_overrides(config, point)
    several, threads = changed.trainer.world_size > 1, changed.trainer.threads or config.sweep.cpus_per_trial
    trainer = replace(changed.trainer, launcher="ray" if several else "auto", threads=threads)
    return replace(changed, trainer=trainer, data=replace(changed.data, split="holdout"))


def trial_resources(config: Config, cluster: dict[str, float]) -> dict[str, float]:
    """What Ray sets aside for a trial.

    Raises:
        ValueError: more than the cluster has.
    """
    if config.trainer.world_size > 1:
        # Its ranks hold the CPUs and GPUs. The trial's own process waits for them on the head node and takes nothing.
        return {"node:__internal_head__": 0.001}
    # A process that asks for no GPU sees all of them, and training would take the first: each trial asks for its own.
    needs = {"CPU": config.sweep.cpus_per_trial, "GPU": config.sweep.gpus_per_trial or float(on_gpus(config, cluster))}
    for resource, amount in needs.items():
        if amount > cluster.get(resource, 0):
            raise ValueError(
                f"a trial needs {amount:g} {resource}, the Ray cluster has {cluster.get(resource, 0):g}; "
                f"lower sweep.{resource.lower()}s_per_trial, or name a larger cluster in sweep.address"
            )
    return needs


def run_trial(
    point: dict[str, Any], *, config: dict[str, Any], store: str, tags: dict[str, str], num_train: int
) -> None:
    """What Ray runs, on a split of `num_train` images.

    A scheduler's stop reaches training as `Stopped` and leaves a whole, resumable run behind.
    """
    from ray import tune

    from pipeline.learn.training.classifier import DivergedError
    from pipeline.record import Net
    from pipeline.run.fit import Stopped, fit
    from pipeline.run.recorder import Validated
    from pipeline.tuning.ranks import fit_on_ray, reported

    changed = trial_config(from_dict(config), chosen(point))
    epoch_steps = (changed.data.num_train or num_train) // changed.recipe.batch_size
    stops: list[SystemExit] = []
    reports: list[int] = []

    def report(validated: Validated) -> None:
        reports.append(validated.step)
        try:
            tune.report(reported(validated, epoch_steps))
        except SystemExit as stop:  # Ray ends a function so when its scheduler has stopped the trial
            stops.append(stop)
            raise Stopped from None

    def on_finished(net: Net) -> None:
        """The run was finished before, in another sweep or by the train stage."""
        metrics = {"val/err1": net.val_err1, "val/err5": net.val_err5, "best/err1": net.val_err1}
        tune.report({"epoch": -(-net.steps // epoch_steps), "step": net.steps, "key": net.key, **metrics})

    try:
        if changed.trainer.launcher == "ray":
            fit_on_ray(changed, Path(store), tags, epoch_steps, on_finished)
        else:
            net = fit(changed, Path(store), tags=tags, report=report)
            if not reports:
                on_finished(net)
    except DivergedError as error:
        # A result, not a failure: this learning rate is too high. Ray would repeat a failed trial.
        tune.report({"epoch": 0, "step": 0, "key": "", "best/err1": 1.0, "val/err1": 1.0, "error": str(error)})
    if stops:
        raise stops[0]  # a return would be reported, and wait for an answer that a stopped trial does not get
