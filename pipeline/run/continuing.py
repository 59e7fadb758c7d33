"""start.checkpoint: a run that begins where another one has ended, with its weights, optimiser state and step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from pipeline.atomic import read_if_whole
from pipeline.config import Config, ModelConfig, RecipeConfig, leaves
from pipeline.errors import DamagedError, MissingError, PipelineError
from pipeline.record import Net, from_json
from pipeline.run import CONFIG, LAST, RUN
from pipeline.run.checkpoint import save, whole
from pipeline.run.shared import bring

FREE = ("lr", "max_steps", "milestones")  # keys of the recipe in which the two may differ


def predecessor(config: Config) -> dict[str, Any]:
    """run.json of the run that start.checkpoint names; {} for a training of its own.

    Raises:
        MissingError: there is no such training in paths.runs, or it has not finished.
    """
    if not (key := config.start.checkpoint):
        return {}
    folder = Path(config.paths.runs) / key
    if not _has_ended(folder):
        bring(folder, config.cluster.storage)
    if not _has_ended(folder):
        raise MissingError(
            f"start.checkpoint={key}: there is no training of that key in {config.paths.runs} that has finished; train it "
            "to its end first, or name another one"
        )
    return read_if_whole(folder / RUN)


def _has_ended(folder: Path) -> bool:
    return read_if_whole(folder / RUN).get("status") == "finished" and (folder / LAST).exists()


def checked_predecessor(config: Config, content_hash: str, precision: str) -> Net | None:
    """The record of the run that start.checkpoint names; None for a training of its own.

    Args:
        content_hash: of the store.
        precision: recipe.precision as resolved on this hardware.
    Raises:
        PipelineError: there is no such run, or the training cannot go on from it as if the two were one.
    """
    if not (run := predecessor(config)):
        return None
    net, title = from_json(run["net"]), f"start.checkpoint={config.start.checkpoint}"
    if net.data != content_hash:
        raise PipelineError(
            f"{title} was trained on other images than those of data.name={config.data.name}; name another run"
        )
    theirs = _leaves(net.split, net.num_train, net.model, net.recipe)
    recipe = replace(config.recipe, precision=precision)  # type: ignore[arg-type]
    for key, value in _leaves(config.data.split, config.data.num_train, config.model, recipe).items():
        if theirs[key] != value:
            raise PipelineError(
                f"{title} was trained with {key}={theirs[key]}, not {value}; beside the seed, only "
                f"{', '.join(f'recipe.{name}' for name in FREE)} may differ (override: {key}={theirs[key]})"
            )
    _check_shares(config, title)
    if net.steps >= config.recipe.max_steps:
        raise PipelineError(
            f"{title} has made {net.steps} steps, which recipe.max_steps={config.recipe.max_steps} counts too "
            f"(override: recipe.max_steps={2 * net.steps})"
        )
    return net


def _check_shares(config: Config, title: str) -> None:
    """Raises PipelineError if layers would learn at another share of the rate; the optimiser's state is kept by share."""
    path = Path(config.paths.runs) / config.start.checkpoint / CONFIG
    if not path.exists():  # the user removed it, as the error below advises
        return
    try:
        start = dict(yaml.safe_load(path.read_text(encoding="utf-8"))["start"])
        share = start["backbone_lr"]
    except (yaml.YAMLError, ValueError, TypeError, KeyError):
        raise PipelineError(
            f"{path} is damaged; copy it from the run's artifacts in MLflow, or remove it and give start.backbone_lr as that "
            "run had it"
        ) from None
    if share != (ours := config.start.backbone_lr):
        weights = f"start.weights={start.get('weights')} " if share != 1 and not config.start.weights else ""
        raise PipelineError(
            f"{title} was trained with start.backbone_lr={share}, not {ours:g}; layers keep their shares of the learning "
            f"rate (override: {weights}start.backbone_lr={share})"
        )


def _leaves(split: str, num_train: int, model: ModelConfig, recipe: RecipeConfig | None) -> dict[str, Any]:
    """What must not change between the two, by dotted key."""
    assert recipe is not None  # it was trained here
    sections = {"data": {"split": split, "num_train": num_train}, "model": asdict(model), "recipe": asdict(recipe)}
    return {key: value for key, value in leaves(sections) if key.removeprefix("recipe.") not in FREE}


def take_over(config: Config, folder: Path, key: str, require: Callable[[], object]) -> Path:
    """Makes the predecessor's last checkpoint the first one of the run `key`; from then on the run needs its folder alone.

    Args:
        folder: of the run.
        require: see `pipeline.atomic.replacing`.
    Returns:
        The checkpoint's path. Its step and its place in the order of images are the predecessor's; the best weights so
        far and the snapshots are not, since their files are not this run's.
    Raises:
        PipelineError: the predecessor's checkpoint is missing, damaged, or older than its last step.
    """
    path = Path(config.paths.runs) / config.start.checkpoint / LAST
    try:
        checkpoint = whole(path)
    except (DamagedError, FileNotFoundError) as error:
        raise PipelineError(
            f"start.checkpoint={config.start.checkpoint}: {error}; remove {path.parent} to train that run anew"
        ) from None
    if checkpoint["global_step"] != (steps := from_json(read_if_whole(path.parent / RUN)["net"]).steps):
        raise PipelineError(
            f"start.checkpoint={config.start.checkpoint}: {path} is of step {checkpoint['global_step']}, and that run ended at "
            f"step {steps}; remove {path.parent} to train that run anew"
        )
    checkpoint["run_key"] = key
    checkpoint["callbacks"]["Recorder"] |= {"best": {}, "snapshots": {}}
    _reopen(checkpoint["loops"]["fit_loop"])
    save(checkpoint, folder / LAST, require)
    return folder / LAST


def _reopen(loop: dict[str, Any]) -> None:
    """Turns the state of Lightning's loop at the end of a training into that after a step in the middle of an epoch.

    At the end of an epoch nothing is to do, see `checkpoint_io.begin_next_epoch`. In its middle, Lightning would take the
    epoch for one that is over.
    """
    batches = loop["epoch_loop.batch_progress"]
    if batches["is_last_batch"]:
        return
    for counts in (batches["total"], batches["current"]):
        counts["completed"] = counts["processed"] - 1
    for counts in loop["epoch_progress"].values():
        counts["processed"] = counts["completed"]
