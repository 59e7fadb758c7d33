"""Configurations made in Python, for where YAML, Hydra and pydantic are absent; a test holds them to conf/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import (
    AugmentConfig,
    Config,
    DataConfig,
    EnsembleConfig,
    EvaluationConfig,
    ModelConfig,
    PathsConfig,
    RecipeConfig,
    StartConfig,
    SweepConfig,
    TrackingConfig,
    TrainerConfig,
)
from pipeline.data.store import Store


def paper_config(store: Store, runs: Path, depth: int = 20) -> Config:
    """The CIFAR recipe of Sec. 4.2 on `store`, all training images, without the drops of the learning rate.

    Args:
        store: of images of one size.
        runs: paths.runs, absolute.

    Raises:
        ValueError: a store of JPEGs.
    """
    manifest = store.manifest
    if manifest.format != "arrays":
        raise ValueError(f"{store.path} holds {manifest.format}; the bench takes a store of arrays, such as cifar10's")
    return Config(
        seed=0,
        data=DataConfig(
            name=manifest.name,
            source="folder",
            path=str(store.path),
            mirror="",
            format="arrays",
            image_size=manifest.image_size,
            num_val=manifest.split["num_val"],
            num_train=0,
            split_seed=manifest.split["seed"],
            split="full",
            skip_corrupt=False,
            workers=0,
        ),
        model=ModelConfig(
            family="cifar",
            depth=depth,
            residual=True,
            shortcut="A",
            stride_on="1x1",
            shortcut_zeros="after",
            init_fan="fan_in",
        ),
        recipe=_recipe(manifest.image_size),
        start=StartConfig(weights="", head="new", backbone_lr=1.0),
        trainer=_trainer(),
        sweep=_sweep(),
        ensemble=EnsembleConfig(selection="top_k", size=1, temperature="none", members=[]),
        evaluation=EvaluationConfig(views="single", batchnorm="running", runs="members"),
        tracking=TrackingConfig(uri="", system_metrics_every_s=0),
        paths=PathsConfig(runs=str(runs), mlruns=str(runs / "mlruns")),
    )


def _recipe(side: int) -> RecipeConfig:
    return RecipeConfig(
        batch_size=128,
        max_steps=64_000,
        lr=0.1,
        schedule="multistep",
        cycles=1,
        milestones=[],
        plateau_patience=0,
        plateau_margin=0.0,
        warmup_lr=0.0,
        warmup_until_err=0.8,
        warmup_fraction=0.0,
        small_side=0,
        small_fraction=0.0,
        momentum=0.9,
        nesterov=False,
        muon_lr=0.0,
        weight_decay=1e-4,
        decay_norm=False,
        label_smoothing=0.0,
        normalize="per_pixel_mean",
        precision="auto",
        augment=AugmentConfig(
            kind="pad_crop", crop=side, padding=4, flip=True, min_side=0, max_side=0, pca_std=0.0, test_side=0
        ),
    )


def _trainer() -> TrainerConfig:
    return TrainerConfig(
        accelerator="auto",
        devices=1,
        num_nodes=1,
        launcher="auto",
        threads=0,
        channels_last=True,
        compile="auto",
        steps_per_call=0,
        sync_batchnorm=True,
        val_every_epochs=1,
        log_every_steps=50,
        checkpoint_every_steps=0,
    )


def _sweep() -> SweepConfig:
    """Never run; a configuration cannot be without one."""
    return SweepConfig(
        space={"model.depth": [20]},
        num_samples=1,
        grace_epochs=1,
        reduction_factor=0,
        cpus_per_trial=1,
        gpus_per_trial=0.0,
        max_concurrent=0,
        max_failures=0,
        address="",
    )


def changed(config: Config, **sections: Mapping[str, Any]) -> Config:
    """`config` with some values replaced and checked again: `changed(config, recipe={"max_steps": 10})`."""
    return replace(config, **{name: replace(getattr(config, name), **values) for name, values in sections.items()})
