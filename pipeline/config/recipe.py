"""recipe.* and start.*: what decides the result of a training, beside data, model and seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.config.section import Section, require


@dataclass(frozen=True, kw_only=True)
class StartConfig(Section):
    """What a training starts from."""

    weights: str  # a file, run:<key or MLflow id>, torchvision:<name>; "" for random ones
    head: Literal["new", "kept"]  # the last layer's: drawn anew, for other classes, or taken too
    backbone_lr: float  # share of the learning rate that all other layers have; 0 keeps them as they are

    def __post_init__(self) -> None:
        require(
            self.backbone_lr >= 0 and (self.weights != "" or self.backbone_lr == 1),
            f"start.backbone_lr={self.backbone_lr} with start.weights={self.weights!r}; it is at least 0, and 1 where training starts from random weights",
        )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Section):
    """Training-time augmentation; every draw is a function of (seed, epoch, sample)."""

    kind: Literal["pad_crop", "random_resized_crop", "scale_jitter"]
    crop: int  # side of the square the net sees, in pixels
    padding: int  # pad_crop: zeros added on each side after the mean is subtracted
    flip: bool
    min_side: int  # scale_jitter: shorter side drawn from [min_side, max_side]
    max_side: int
    pca_std: float  # shards: colour shift along the pixels' principal axes, AlexNet's is 0.1; 0 for none
    test_side: int  # shards: shorter side before the centre crop of a test image

    def __post_init__(self) -> None:
        require(
            self.crop > 0 and self.padding >= 0,
            f"recipe.augment.crop={self.crop}, padding={self.padding}; crop must be positive, padding not negative",
        )
        require(
            self.pca_std == 0 or (self.pca_std > 0 and self.kind != "pad_crop"),
            f"recipe.augment.pca_std={self.pca_std} with kind={self.kind}; 0 for none, or above 0 for images kept as shards",
        )
        if self.kind == "scale_jitter":
            require(
                self.crop <= self.min_side <= self.max_side,
                f"recipe.augment: crop={self.crop}, min_side={self.min_side}, max_side={self.max_side}; need crop <= min_side <= max_side",
            )


@dataclass(frozen=True, kw_only=True)
class RecipeConfig(Section):
    """What decides the result of a training, beside data, model and seed. Durations are in optimiser steps."""

    batch_size: int  # global, over all ranks
    max_steps: int
    lr: float
    schedule: Literal["multistep", "plateau", "one_cycle", "cosine"]
    milestones: list[int]  # multistep: lr is divided by 10 at each
    plateau_patience: int  # plateau: lr is divided by 10 after this many validations without a lower error
    plateau_margin: float  # ... lower by this fraction of the images
    warmup_lr: float  # multistep, plateau: used at first; 0 for no warm-up
    warmup_until_err: float  # ... until a window's mean train error is below this fraction
    warmup_fraction: float  # one_cycle, cosine: share of max_steps, or of a cycle, spent rising to lr
    cycles: int  # cosine: how often it starts anew; of several, each leaves a snapshot of the weights
    small_side: int  # training images are shrunk to this side at first, in pixels; 0 for never
    small_fraction: float  # ... for this share of max_steps
    momentum: float
    nesterov: bool
    muon_lr: float  # peak for hidden convolutions, which Muon then optimises; 0 for SGD everywhere
    weight_decay: float  # of what SGD optimises
    decay_norm: bool  # whether batch norm's scale and shift decay too
    label_smoothing: float
    normalize: Literal[
        "per_pixel_mean", "channel", "imagenet", "cifar10_public", "cifar100_public", "half", "unit"
    ]  # see `pipeline.learn.input.normalization`
    precision: Literal["auto", "fp32", "tf32", "bf16"]  # auto: bf16 where the hardware multiplies it
    augment: AugmentConfig

    def __post_init__(self) -> None:
        require(
            self.batch_size > 0 and self.max_steps > 0,
            f"recipe.batch_size={self.batch_size}, recipe.max_steps={self.max_steps}; both must be positive",
        )
        require(self.lr > 0, f"recipe.lr={self.lr}; it must be positive")
        require(self.muon_lr >= 0, f"recipe.muon_lr={self.muon_lr}; it must be positive, or 0 for SGD everywhere")
        require(
            0 <= self.label_smoothing < 1,
            f"recipe.label_smoothing={self.label_smoothing}; it must be at least 0, which is none, and below 1",
        )
        require(
            self.milestones == sorted(set(self.milestones)) and all(0 < m < self.max_steps for m in self.milestones),
            f"recipe.milestones={self.milestones}; need rising steps between 0 and recipe.max_steps={self.max_steps}",
        )
        self._check_schedule()
        require(
            self.small_side == 0 or (8 <= self.small_side < self.augment.crop and 0 < self.small_fraction < 1),
            f"recipe.small_side={self.small_side}, recipe.small_fraction={self.small_fraction} with recipe.augment.crop={self.augment.crop}; a side from 8 to below the crop for a share between 0 and 1 of the steps, or 0 for never",
        )
        require(
            not self.warmup_lr or 0 < self.warmup_until_err < 1,
            f"recipe.warmup_until_err={self.warmup_until_err}; with a warm-up it must lie between 0 and 1",
        )

    def _check_schedule(self) -> None:
        require(
            self.schedule == "multistep" or not self.milestones,
            f"recipe.schedule={self.schedule} takes no milestones (override: recipe.milestones=[])",
        )
        require(
            self.cycles == 1 or (self.schedule == "cosine" and self.cycles > 1 and self.max_steps % self.cycles == 0),
            f"recipe.cycles={self.cycles} with recipe.schedule={self.schedule}, recipe.max_steps={self.max_steps}; 1, or with cosine a number that divides the steps",
        )
        if self.schedule == "plateau":
            require(
                self.plateau_patience > 0 and 0 <= self.plateau_margin < 1,
                f"recipe.plateau_patience={self.plateau_patience}, recipe.plateau_margin={self.plateau_margin}; wait for at least 1 validation, and for less than the whole error",
            )
        if self.schedule in ("one_cycle", "cosine"):
            require(
                not self.warmup_lr,
                f"recipe.schedule={self.schedule} takes no warmup_lr (override: recipe.warmup_lr=0)",
            )
            least = 0 if self.schedule == "cosine" else 1e-9
            require(
                least <= self.warmup_fraction < 1,
                f"recipe.warmup_fraction={self.warmup_fraction}; it must lie between 0 and 1",
            )
