"""The run that a configuration names: its key, its folder, and the record of its net."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from pipeline.atomic import read_if_whole
from pipeline.config import Config
from pipeline.data.facts import num_training, require_settings, require_task
from pipeline.data.store import Manifest, open_store
from pipeline.errors import PipelineError
from pipeline.learn.models import build_model
from pipeline.learn.models.cost import count_cost
from pipeline.learn.training.precision import resolve
from pipeline.record import Net, from_json
from pipeline.run import RUN
from pipeline.run.continuing import checked_predecessor
from pipeline.run.key import code_version, run_key
from pipeline.run.start import Start, start_title, starting_point
from pipeline.run.weights import BEST
from pipeline.tracking.location import Location, locate
from pipeline.tracking.shipper import run_id


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run's configuration, data, key and folder, for every part of the training."""

    config: Config
    manifest: Manifest
    precision: str  # fp32, tf32 or bf16: recipe.precision as resolved
    start: Start | None  # None: random weights
    location: Location | None  # of MLflow; None: the run is not tracked
    key: str  # see `pipeline.run.key`
    before: Net | None = None  # the record of the run that start.checkpoint names

    @property
    def folder(self) -> Path:
        return Path(self.config.paths.runs) / self.key

    @property
    def name(self) -> str:
        return run_name(self.config)

    @cached_property
    def net(self) -> Net:
        """The record of the net before its first step."""
        config, content_hash = self.config, self.manifest.content_hash
        classes, channels, side = len(self.manifest.classes), self.manifest.channels, config.recipe.augment.crop
        with torch.device("meta"):
            cost = count_cost(build_model(config.model.net, classes, channels), (channels, side, side))
            params = sum(each.numel() for each in build_model(config.model, classes, channels).parameters())
        seen = {*(self.start.seen if self.start else ()), *(self.before.seen if self.before else ())}
        if config.data.split == "full":
            seen.add(content_hash)
        return Net(
            key=self.key,
            code=code_version(config.model.detects),
            model=config.model,
            num_classes=classes,
            in_channels=channels,
            normalize=config.recipe.normalize,
            augment=config.recipe.augment,
            params=params,
            macs=cost.macs,
            data=content_hash,
            split=config.data.split,
            num_train=config.data.num_train,
            seen=tuple(sorted(seen)),
            recipe=replace(config.recipe, precision=self.precision),  # type: ignore[arg-type]
            seed=config.seed,
            start=start_title(config.start),
            started=self.start.identity if self.start else "",
            callbacks=json.dumps(config.trainer.callbacks) if config.trainer.callbacks else "",
            sync_batchnorm=config.trainer.sync_batchnorm,
        )

    def finished(self) -> Net | None:
        """The record of a finished run, with its id in MLflow; None if there is work left."""
        run = read_if_whole(self.folder / RUN)  # without it, the last checkpoint gives the result again
        finished = run.get("status") == "finished" and (self.folder / BEST).exists()
        return self.tracked(from_json(run["net"])) if finished else None

    def tracked(self, net: Net) -> Net:
        """`net` with the run's id in MLflow, or "" until MLflow has answered."""
        return replace(net, run_id=run_id(self.folder, self.location) or "")


def run_name(config: Config) -> str:
    """For example "ResNet-56, lr 0.1, seed 0"."""
    return f"{config.model.name}, lr {config.recipe.lr:g}, seed {config.seed}"


def identify(config: Config, store: Path, *, precision: str = "", track: bool = True) -> Run:
    """The run, with its starting weights read and checked.

    Args:
        store: folder that preprocess made.
        precision: recipe.precision as resolved on the machine that trains; "" resolves it on this one.
        track: whether MLflow follows the run. MLflow also gives a starting run that is not in paths.runs.
    Raises:
        PipelineError: bad start.weights or start.checkpoint, see `pipeline.run.start` and `continuing`, a precision this
            hardware lacks, images with boxes for a net that classifies or with labels for a detector, a store that was made
            with other values of data.*, or fewer training images than a batch.
    """
    precision = precision or resolve(config.recipe.precision, config.trainer.accelerator)
    location = locate(config.tracking.uri, config.paths.mlruns) if track else None
    opened = open_store(store)
    manifest = opened.manifest
    require_task(manifest, config.model)
    require_settings(opened, config.data)
    _require_a_batch(config, manifest)
    start = starting_point(config.start.weights, Path(config.paths.runs), location, config.model, config.seed)
    if start is not None:
        frozen = config.start.backbone_lr == 0 or config.model.detects
        start.check(config, manifest.content_hash, frozen, manifest.classes)
    before = checked_predecessor(config, manifest.content_hash, precision)
    key = run_key(config, manifest.content_hash, precision, start.fingerprint if start else "")
    return Run(
        config=config, manifest=manifest, precision=precision, start=start, location=location, key=key, before=before
    )


def _require_a_batch(config: Config, manifest: Manifest) -> None:
    """Before anything is built or timed: a batch of a million images would occupy the machine for minutes."""
    images = num_training(manifest, config.data.split)
    images = min(images, config.data.num_train or images)
    batch, ranks = config.recipe.batch_size, config.trainer.world_size
    if batch > images:
        multiple = ranks * config.recipe.accumulate
        most = images // multiple * multiple
        remedy = f"override: recipe.batch_size={most}" if most else f"there are {ranks} ranks"
        raise PipelineError(
            f"recipe.batch_size={batch} is larger than the {images} training images; choose a smaller one ({remedy})"
        )
