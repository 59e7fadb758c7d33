"""One trial: its configuration, its resources, and the training, which reports to Ray Tune."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import Config, from_dict, with_overrides
from pipeline.errors import PipelineError
from pipeline.storage.stores import store_at_hand
from pipeline.tracking.location import KIND_TAG, PARENT_TAG, SEARCH, VARIED_TAG
from pipeline.tuning.cluster import on_gpus
from pipeline.tuning.draining import Draining, Preempted
from pipeline.tuning.ending import Asked
from pipeline.tuning.population import is_last
from pipeline.tuning.search import is_shortened
from pipeline.tuning.space import chosen
from pipeline.tuning.trials import name_of


def trial_config(config: Config, point: dict[str, Any]) -> Config:
    """`config` with a trial's choices. Ray owns the trial's resources, so it also launches several ranks.

    A trial trains on the holdout split whatever data.split says: a sweep selects on validation images, and full has none.
    """
    if config.sweep.searcher == "pbt":  # whose rules hold for all steps of a member, and a trial makes a part of them
        config = replace(config, sweep=replace(config.sweep, searcher="grid"))
    changed = with_overrides(config, point)
    several = changed.trainer.world_size > 1
    # Of several ranks each takes one CPU, or one GPU, see `ranks`.
    threads = changed.trainer.threads or (1 if several else config.cluster.cpus_per_trial)
    trainer = replace(changed.trainer, launcher="ray" if several else "lightning", threads=threads)
    return replace(changed, trainer=trainer, data=replace(changed.data, split="holdout"))


def trial_resources(config: Config, nodes: list[dict[str, float]]) -> dict[str, float]:
    """What Ray sets aside for a trial, on one machine.

    Raises:
        PipelineError: more than any machine of the cluster has, so that Ray would wait for ever.
    """
    if config.trainer.world_size > 1:
        # The ranks hold the CPUs and GPUs; the trial's own process only waits for them, on the head node.
        return {"node:__internal_head__": 0.001}
    # A process that asks for no GPU sees all of them, and every training would take the first.
    needs = {
        "CPU": config.cluster.cpus_per_trial,
        "GPU": config.cluster.gpus_per_trial or float(on_gpus(config, nodes)),
    }
    for resource, amount in needs.items():
        have = [node.get(resource, 0) for node in nodes]
        if amount > max(have, default=0):
            remedy = {
                "CPU": "lower cluster.cpus_per_trial",
                "GPU": "train on CPUs (override: trainer.accelerator=cpu cluster.gpus_per_trial=0)",
            }
            raise PipelineError(
                f"a trial needs {amount:g} {resource} on one machine; the largest of the Ray cluster's {len(nodes)} has "
                f"{max(have, default=0):g}, all together have {sum(have):g}; {remedy[resource]}, or name a cluster of larger "
                "machines in cluster.address"
            )
    if not any(all(node.get(resource, 0) >= amount for resource, amount in needs.items()) for node in nodes):
        raise PipelineError(
            f"a trial needs {needs['CPU']:g} CPU and {needs['GPU']:g} GPU on one machine, and no machine of the Ray cluster has "
            "both; lower cluster.cpus_per_trial, or name another cluster in cluster.address"
        )
    return needs


def trial_tags(config: Config, point: dict[str, Any], tags: dict[str, str]) -> dict[str, str]:
    """A trial's tags in MLflow. One that makes a part of a training is of the kind SEARCH and joins no ensemble.

    Args:
        tags: of all trials of the sweep, their kind SEARCH where they are those of sweep.search.
    """
    if config.sweep.searcher == "pbt":
        part = not is_last(config, point)
    else:
        part = tags.get(KIND_TAG) == SEARCH and is_shortened(config, point)
    return {**tags, VARIED_TAG: ",".join(point), KIND_TAG: SEARCH if part else "train"}


def run_trial(
    point: dict[str, Any],
    *,
    config: dict[str, Any],
    store: str,
    content_hash: str,
    tags: dict[str, str],
    stop: str,
) -> None:
    """Trains one trial; Ray Tune calls it in a process of its own.

    A stop by the scheduler reaches training as `Stopped` and leaves a complete, resumable run behind. When the sweep ends,
    the trial saves a checkpoint and returns; when its machine is drained, it saves one and fails, and Tune starts it elsewhere.

    Args:
        content_hash: of the store, by which a machine that lacks it finds it on cluster.storage.
        stop: the file that asks the sweep to end.
    """
    from ray import tune

    from pipeline.tuning.starting import turn

    with turn():
        from pipeline.learn.training.divergence import DivergedError
        from pipeline.record import Net
        from pipeline.run import Interrupted
        from pipeline.run.fit import Stopped, fit
        from pipeline.run.recorder import Validated
        from pipeline.tuning.ranks import epoch_steps, fit_on_ray, reported

    given = from_dict(config)
    changed = trial_config(given, chosen(point))
    tags = trial_tags(given, chosen(point), tags)
    owner = f"{tags[PARENT_TAG]} {name_of(chosen(point))}"  # two trials may come to one run, which one of them makes
    asked = Asked(Path(stop), given.cluster.storage)
    if asked():
        return
    draining = Draining()
    images = store_at_hand(Path(store), given.cluster.storage, content_hash, Path(given.paths.runs))
    steps = epoch_steps(changed, images)
    stops: list[SystemExit] = []
    reports: list[int] = []

    def report(validated: Validated) -> None:
        reports.append(validated.step)
        try:
            tune.report(reported(validated, steps))
        except SystemExit as stop:  # Ray ends a function like this when its scheduler has stopped the trial
            stops.append(stop)
            raise Stopped from None

    def on_finished(net: Net) -> None:
        """Reports a run that another sweep or the train stage finished before."""
        metrics = {"val/err1": net.val_err1, "val/err5": net.val_err5, "best/err1": net.val_err1}
        made = {"from_step": net.steps, "step": net.steps}
        tune.report({"epoch": -(-net.steps // steps), **made, "key": net.key, **metrics})

    try:
        if changed.trainer.launcher == "ray":
            fit_on_ray(changed, images, tags, on_finished, owner)
        else:
            net = fit(
                changed,
                images,
                tags=tags,
                report=report,
                asked=lambda: asked() or draining(),
                owner=owner,
            )
            if not reports:
                on_finished(net)
    except DivergedError as error:
        # The result of too high a learning rate, not a failure, which Ray would repeat. The scheduler counts it among the
        # trials that had come as far, at its first rung at least.
        epoch = max(given.sweep.grace_epochs, -(-max(reports, default=0) // steps) + 1)
        tune.report({"epoch": epoch, "step": 0, "key": "", "best/err1": 1.0, "val/err1": 1.0, "error": str(error)})
    except Interrupted as error:
        if not asked():
            if draining():
                raise Preempted(f"{draining.why}; {error}") from None
            raise
    if stops:
        raise stops[0]  # after a return Ray would report, and wait for an answer that a stopped trial does not get
