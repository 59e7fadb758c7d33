"""recipe.*, start.* and trainer.*: how a net is trained, where, and from what it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipeline.config.section import Section, require


@dataclass(frozen=True, kw_only=True)
class StartConfig(Section):
    """What a training starts from."""

    weights: str = ""  # a file, run:<key or MLflow id>, torchvision:<name>; "" for random ones
    head: Literal["new", "kept"] = "new"  # the last layer's: drawn anew, for other classes, or taken too
    backbone_lr: float = 1.0  # share of the learning rate that all other layers have; 0 keeps them as they are

    def __post_init__(self) -> None:
        require(
            self.backbone_lr >= 0 and (self.weights != "" or self.backbone_lr == 1),
            f"start.backbone_lr={self.backbone_lr} with start.weights={self.weights!r}; it is at least 0, and 1 where training starts from random weights",
        )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Section):
    """Training-time augmentation; every draw is a function of (seed, epoch, sample)."""

    kind: Literal["pad_crop", "random_resized_crop", "scale_jitter"] = "pad_crop"
    crop: int  # side of the square the net sees, in pixels; by default that of small images as they are
    padding: int = 4  # pad_crop: zeros added on each side after the mean is subtracted
    flip: bool = True
    min_side: int = 0  # scale_jitter: shorter side drawn from [min_side, max_side]
    max_side: int = 0
    pca_std: float = 0.0  # shards: colour shift along the pixels' principal axes, AlexNet's is 0.1; 0 for none
    test_side: int = 0  # shards: shorter side before the centre crop of a test image

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
    """What decides the result of a training, beside data, model and seed: Sec. 4.2's by default.

    Durations are in optimiser steps.
    """

    batch_size: int = 128  # global, over all ranks
    max_steps: int = 64000
    lr: float = 0.1
    schedule: Literal["multistep", "plateau", "one_cycle", "cosine"] = "multistep"
    milestones: list[int] = field(default_factory=list)  # multistep: lr is divided by 10 at each
    plateau_patience: int = 0  # plateau: lr is divided by 10 after this many validations without a lower error
    plateau_margin: float = 0.0  # ... lower by this fraction of the images
    warmup_lr: float = 0.0  # multistep, plateau: used at first; 0 for no warm-up
    warmup_until_err: float = 0.8  # ... until the mean train error of check_every_steps is below this fraction
    check_every_steps: int = 50  # steps between looks at the train error (warm-up) and loss (divergence)
    warmup_fraction: float = 0.0  # one_cycle, cosine: share of max_steps, or of a cycle, spent rising to lr
    cycles: int = 1  # cosine: how often it starts anew; of several, each leaves a snapshot of the weights
    small_side: int = 0  # training images are shrunk to this side at first, in pixels; 0 for never
    small_fraction: float = 0.0  # ... for this share of max_steps
    momentum: float = 0.9
    nesterov: bool = False
    muon_lr: float = 0.0  # peak for hidden convolutions, which Muon then optimises; 0 for SGD everywhere
    weight_decay: float = 1e-4  # of what SGD optimises
    decay_norm: bool = False  # whether batch norm's scale and shift decay too
    label_smoothing: float = 0.0
    normalize: Literal["per_pixel_mean", "channel", "imagenet", "cifar10_public", "cifar100_public", "half", "unit"] = (
        "per_pixel_mean"  # see `pipeline.learn.input.normalization`
    )
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"  # auto: bf16 where the hardware multiplies it
    augment: AugmentConfig

    def __post_init__(self) -> None:
        require(
            self.batch_size > 0 and self.max_steps > 0,
            f"recipe.batch_size={self.batch_size}, recipe.max_steps={self.max_steps}; both must be positive",
        )
        require(
            self.check_every_steps > 0,
            f"recipe.check_every_steps={self.check_every_steps}; it must be at least 1",
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


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(Section):
    """Where and how training runs; beyond rounding, only what `training.key` names changes what is learnt."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1  # ranks a node
    num_nodes: int = 1
    launcher: Literal["auto", "ray"] = (
        "auto"  # auto: torchrun, Slurm or Lightning's own subprocesses, as the environment says
    )
    threads: int = 0  # torch threads a rank; 0 leaves torch's choice
    channels_last: bool = True
    compile: bool | Literal["auto"] = "auto"  # torch.compile, for training; auto: where it was measured to be faster
    steps_per_call: int = 0  # optimiser steps a call by Lightning; 0: 1 on a CPU, 25 on a GPU
    cuda_graphs: bool = False  # on one GPU, replay steps as CUDA graphs
    sync_batchnorm: bool = True  # statistics over the global batch; false: per rank, as the paper's GPUs did
    val_every_epochs: int = 1
    log_every_steps: int = 50
    checkpoint_every_steps: int = 0  # beside one at each epoch's end; 0 for none

    def __post_init__(self) -> None:
        for key in ("devices", "num_nodes", "val_every_epochs", "log_every_steps"):
            require(getattr(self, key) > 0, f"trainer.{key}={getattr(self, key)}; it must be at least 1")
        require(
            self.steps_per_call >= 0,
            f"trainer.steps_per_call={self.steps_per_call}; give a number of steps, or 0 for what suits the hardware",
        )
        require(self.threads >= 0, f"trainer.threads={self.threads}; give a count, or 0 for torch's choice")
        require(
            self.checkpoint_every_steps >= 0,
            f"trainer.checkpoint_every_steps={self.checkpoint_every_steps}; give a number of steps, or 0 for none inside an epoch",
        )

    @property
    def world_size(self) -> int:
        return self.devices * self.num_nodes
