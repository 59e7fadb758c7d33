"""recipe.*, start.* and trainer.*: how a net is trained, on what hardware, and from which weights."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pipeline.config.section import (
    Alpha,
    Count,
    Few,
    NoPixels,
    NoRate,
    PartialShare,
    Pixels,
    Positive,
    Rate,
    Seconds,
    Section,
    Share,
    Threads,
    require,
    require_targets,
    shown,
)

SWEEP = "sweep:"  # start.weights of the runs of another data set's sweep
NEVER = 2**31 - 1  # trainer.val_every_epochs; a training is validated at its last step whatever it says


@dataclass(frozen=True, kw_only=True)
class StartConfig(Section):
    """What a training starts from."""

    section: ClassVar[str] = "start"

    # A file, run:<key or MLflow id>, published:<name>, torchvision:<name>; "" for random weights. Of several runs,
    # run:<key>,<key>, that of the same net, and of its seed if there is one; sweep:<data set> names those of its sweep.
    weights: str = ""
    head: Literal["new", "kept"] = "new"  # the last layer: drawn anew, for other classes, or loaded too
    # Factor of the learning rate for all other layers; 0 freezes them. Those that a detector adds to its net are new, too.
    backbone_lr: NoRate = 1.0
    # Key of a finished run whose last checkpoint the training goes on from, with its weights, optimiser state and step; ""
    # for a training of its own.
    checkpoint: str = ""

    def check(self) -> None:
        require(
            re.fullmatch("[0-9a-f]{12}|", self.checkpoint) is not None,
            f"start.checkpoint={shown(self.checkpoint)}; give the key of a finished run, 12 hexadecimal digits as in the name of its folder below paths.runs, or '' for none",
        )
        require(
            self.weights != "" or self.backbone_lr == 1,
            f"start.backbone_lr={self.backbone_lr} with start.weights={self.weights!r}; it must be 1 for random weights (override: start.backbone_lr=1)",
        )


_NOT_WHOLE = ("pca_std", "trivial_augment", "erasing", "mixup", "cutmix")  # of images without boxes alone


def _off(value: Any) -> str:
    return "false" if value is True else "0"


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Section):
    """Training-time augmentation; every draw is a function of (seed, epoch, sample)."""

    section: ClassVar[str] = "recipe.augment"

    # pad_crop: for arrays (Sec. 4.2); scale_jitter: for shards, the paper's (Sec. 3.4); random_resized_crop: GoogLeNet's;
    # whole: for detectors, which see whole images.
    kind: Literal["pad_crop", "random_resized_crop", "scale_jitter", "whole"] = "pad_crop"
    crop: Pixels  # side in pixels of the square that the net sees; by default the side of small images
    padding: NoPixels = 4  # pad_crop: pixels added on each side
    pad_with: Literal["mean", "black"] = "mean"  # pad_crop: zeros after the mean is subtracted, or before
    flip: bool = True  # half of the images are mirrored
    # scale_jitter: shorter side drawn from [min_side, max_side]; whole: that of training images, test_side if max_side is 0
    min_side: NoPixels = 0
    max_side: NoPixels = 0  # scale_jitter: see min_side
    pca_std: NoRate = 0.0  # shards: colour shift along the pixels' principal axes, AlexNet's is 0.1; 0 for none
    # shards: shorter side before the centre crop of a test image; whole: of all test images, whose longer side is at most 5/3 of it
    test_side: NoPixels = 0
    # One of 14 operations an image, at a random strength: before the crop of small images, after that of shards
    # (TrivialAugment, arXiv 2103.10158).
    trivial_augment: bool = False
    erasing: Share = 0.0  # share of the images with a rectangle of 2 to 33 % replaced by the mean (arXiv 1708.04896)
    # Averages each image with the one before it in the batch, by weights drawn from Beta(mixup, mixup); labels too
    # (arXiv 1710.09412); 0 for none.
    mixup: Alpha = 0.0
    # Pastes a rectangle of the preceding image into each image; its share of the area is drawn from Beta(cutmix, cutmix), and
    # labels count by area (arXiv 1905.04899); 0 for none. With mixup, half of the images take the one, half the other.
    cutmix: Alpha = 0.0

    def check(self) -> None:
        require(
            self.kind != "pad_crop" or self.padding < self.crop,
            f"recipe.augment.padding={self.padding} with recipe.augment.crop={self.crop}; a crop of padding alone shows nothing, so it must be smaller (override: recipe.augment.padding={self.crop // 8})",
        )
        require(
            self.pca_std == 0 or self.kind != "pad_crop",
            f"recipe.augment.pca_std={self.pca_std} with kind={self.kind}; 0 for none, or above 0 for images kept as shards",
        )
        if self.kind == "whole":
            given = [key for key in _NOT_WHOLE if getattr(self, key)]
            require(
                not given,
                f"recipe.augment.{' and recipe.augment.'.join(given)} with recipe.augment.kind=whole, which flips and scales alone (override: {' '.join(f'recipe.augment.{key}={_off(getattr(self, key))}' for key in given)})",
            )
            require(
                self.min_side <= self.max_side,
                f"recipe.augment.kind=whole with min_side={self.min_side}, max_side={self.max_side}; min_side <= max_side must hold",
            )
        if self.kind == "scale_jitter":
            require(
                self.crop <= self.min_side <= self.max_side,
                f"recipe.augment.kind=scale_jitter with crop={self.crop}, min_side={self.min_side}, max_side={self.max_side}; crop <= min_side <= max_side must hold",
            )

    @property
    def mixes(self) -> bool:
        """Whether an image is mixed with another one of its batch."""
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True, kw_only=True)
class RecipeConfig(Section):
    """Everything that decides the result of a training besides data, model and seed; by default that of Sec. 4.2.

    Durations are in optimiser steps.
    """

    section: ClassVar[str] = "recipe"

    batch_size: Positive = 128  # of an optimiser step; global, over all ranks
    # Equal parts of a batch, whose gradients a step adds up, one part after the other: for batches that fit into no memory.
    # Batch norm sees a part at a time.
    accumulate: Few = 1
    max_steps: Positive = 64000  # steps of the whole training
    lr: Rate = 0.1  # learning rate, before the schedule lowers it
    schedule: Literal["multistep", "plateau", "one_cycle", "cosine"] = "multistep"  # of the learning rate
    milestones: list[Positive] = field(default_factory=list)  # multistep: lr is divided by 10 at each
    plateau_patience: Count = 0  # plateau: lr is divided by 10 after this many epochs without a lower validation error
    plateau_margin: PartialShare = 0.0  # plateau: how much lower the error must be, as a fraction of the images
    stop_patience: Count = 0  # validations in a row without a lower val/err1 after which the training ends; 0 for never
    warmup_lr: NoRate = 0.0  # multistep, plateau: used at first; 0 for no warm-up
    warmup_until_err: Share = 0.8  # warm-up ends when the training error over check_every_steps is below this
    check_every_steps: Positive = 50  # steps between checks of training error (warm-up) and loss (divergence)
    warmup_fraction: PartialShare = 0.0  # one_cycle, cosine: share of max_steps, or of a cycle, spent rising to lr
    cycles: Positive = 1  # cosine: number of cycles; of several, each leaves a snapshot of the weights
    small_side: NoPixels = 0  # training images are shrunk to this side at first, in pixels; 0 for never
    small_fraction: Share = 0.0  # share of max_steps with images of small_side
    optimizer: Literal["sgd", "adamw"] = "sgd"  # adamw: its second beta is 0.999; lr=0.001 suits it (arXiv 1711.05101)
    momentum: PartialShare = 0.9  # of SGD and Muon; AdamW's first beta
    nesterov: bool = False  # whether the momentum is Nesterov's
    muon_lr: NoRate = 0.0  # peak for hidden convolutions, which Muon then optimises; 0 for none
    weight_decay: NoRate = 1e-4  # for the weights that SGD or AdamW optimises
    # Decay a step of an average of the weights, which is validated and saved in their place: 0.999 for some thousands of
    # steps; at most (1 + step) / (10 + step); 0 for no average.
    ema: PartialShare = 0.0
    clip_norm: NoRate = 0.0  # gradients of a step are scaled down to this norm of all together; 0 for never
    decay_norm: bool = False  # whether batch norm's scale and shift decay too; those of detectors are frozen
    label_smoothing: PartialShare = 0.0  # share of each target that is spread over all classes
    rois: Positive = 128  # detectors: regions of an image that the second stage learns from, a quarter of them objects
    # What is subtracted and divided by, see `pipeline.learn.input.normalization`; the paper's is per_pixel_mean.
    normalize: Literal["per_pixel_mean", "channel", "imagenet", "cifar10_public", "cifar100_public", "half", "unit"] = (
        "per_pixel_mean"
    )
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"  # auto: bf16 if the hardware supports it
    augment: AugmentConfig

    def check(self) -> None:
        require(
            not self.nesterov or self.momentum > 0,
            f"recipe.nesterov=true with recipe.momentum={self.momentum}; it needs a momentum above 0 (override: recipe.nesterov=false)",
        )
        require(
            not self.nesterov or self.optimizer == "sgd" or self.muon_lr > 0,
            f"recipe.nesterov=true with recipe.optimizer={self.optimizer}, which has no momentum of that kind (override: recipe.nesterov=false)",
        )
        rising = [step for step in sorted(set(self.milestones)) if step < self.max_steps]
        require(
            self.milestones == rising,
            f"recipe.milestones={self.milestones}; they must be rising steps between 0 and recipe.max_steps={self.max_steps} (override: recipe.milestones=[{','.join(map(str, rising))}])",
        )
        self._check_schedule()
        require(
            self.small_side == 0 or (8 <= self.small_side < self.augment.crop and 0 < self.small_fraction < 1),
            f"recipe.small_side={self.small_side}, recipe.small_fraction={self.small_fraction} with recipe.augment.crop={self.augment.crop}; take a side from 8 to below the crop and a share of the steps between 0 and 1, or 0 for both",
        )
        require(
            not self.augment.mixes or self.part_size > 1,
            f"recipe.augment.mixup={self.augment.mixup}, recipe.augment.cutmix={self.augment.cutmix} with recipe.batch_size={self.batch_size}, recipe.accumulate={self.accumulate}; an image is mixed with another one of its part of the batch, so take parts of at least 2 (override: recipe.batch_size={2 * self.accumulate})",
        )
        require(
            not self.warmup_lr or 0 < self.warmup_until_err < 1,
            f"recipe.warmup_until_err={self.warmup_until_err}; with a warm-up it must lie between 0 and 1",
        )

    @property
    def part_size(self) -> int:
        """Images, over all ranks, whose gradients are computed at once."""
        return self.batch_size // self.accumulate

    @property
    def cycle_steps(self) -> int:
        return self.max_steps // self.cycles

    def _check_schedule(self) -> None:
        require(
            self.schedule == "multistep" or not self.milestones,
            f"recipe.schedule={self.schedule} takes no milestones (override: recipe.milestones=[])",
        )
        require(
            self.cycles == 1 or (self.schedule == "cosine" and self.cycles > 1 and self.max_steps % self.cycles == 0),
            f"recipe.cycles={self.cycles} with recipe.schedule={self.schedule}, recipe.max_steps={self.max_steps}; it must be 1, or with cosine a number that divides the steps",
        )
        if self.schedule == "plateau":
            require(
                self.plateau_patience > 0,
                f"recipe.plateau_patience={self.plateau_patience} with recipe.schedule=plateau; wait for at least 1 epoch (override: recipe.plateau_patience=5)",
            )
        if self.schedule in ("one_cycle", "cosine"):
            require(
                not self.warmup_lr,
                f"recipe.schedule={self.schedule} takes no warmup_lr (override: recipe.warmup_lr=0)",
            )
            require(
                self.warmup_fraction <= 0.999 and (self.schedule == "cosine" or self.warmup_fraction >= 1e-9),
                f"recipe.warmup_fraction={self.warmup_fraction} with recipe.schedule={self.schedule}; it must lie between 0 and 0.999 (override: recipe.warmup_fraction=0.25)",
            )


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(Section):
    """Where and how training runs. Beyond rounding, only the keys in `pipeline.run.key.deciding` change the weights."""

    section: ClassVar[str] = "trainer"

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"  # auto: a GPU where there is one
    devices: Few = 1  # ranks per node
    num_nodes: Few = 1  # machines
    # What starts the ranks: Lightning as subprocesses, torchrun, Slurm's srun, or Ray on its cluster.
    launcher: Literal["lightning", "torchrun", "slurm", "ray"] = "lightning"
    elastic: bool = False  # torchrun, ray: train on fewer ranks while some are lost, on all when they are back
    # Seconds that a rank waits for another one, be it lost or slow; more if checkpoints take long to write, or if
    # trainer.compile=true compiles on one machine what others have in their cache.
    timeout_s: Seconds = 60.0
    threads: Threads = 0  # torch threads per rank; 0 leaves the choice to torch
    channels_last: bool = True  # weights and images in NHWC memory
    compile: bool | Literal["auto"] = "auto"  # torch.compile, for training; auto: if measured to be faster
    steps_per_call: Count = 0  # optimiser steps per call by Lightning; 0: 25 on a GPU without trainer.callbacks, else 1
    cuda_graphs: bool = False  # on one GPU, replay steps as CUDA graphs
    sync_batchnorm: bool = True  # statistics over the global batch; false: per rank, as the paper's GPUs did
    val_every_epochs: Positive = 1  # epochs between validations; the last step is always validated
    log_every_steps: Positive = 50  # steps between points of the training curves
    checkpoint_every_steps: Count = 0  # steps between checkpoints inside an epoch; 0 for one at its end only
    # A short training that keeps no run. fast: a few steps of everything; overfit: learns one batch by heart; profile: writes
    # where the time of a step goes.
    debug: Literal["", "fast", "overfit", "profile"] = ""
    # More callbacks of Lightning's, each by its _target_ and arguments. They may change the weights, so that they make
    # another run.
    callbacks: list[dict[str, Any]] = field(default_factory=list)

    def check(self) -> None:
        require_targets("trainer.callbacks", self.callbacks, "pytorch_lightning.callbacks.DeviceStatsMonitor")
        require(
            not self.elastic or self.launcher in ("torchrun", "ray"),
            f"trainer.elastic=true with trainer.launcher={self.launcher}, which starts a fixed number of ranks (override: trainer.launcher=torchrun or trainer.launcher=ray)",
        )
        require(
            not self.elastic or self.sync_batchnorm,
            "trainer.elastic=true with trainer.sync_batchnorm=false, whose statistics depend on the number of ranks (override: trainer.sync_batchnorm=true)",
        )

    @property
    def world_size(self) -> int:
        return self.devices * self.num_nodes

    @property
    def world_sizes(self) -> range:
        """Every number of ranks that the training may have: torchrun loses whole machines, Ray single ranks."""
        if not self.elastic:
            return range(self.world_size, self.world_size + 1)
        least = self.devices if self.launcher == "torchrun" else 1
        return range(least, self.world_size + 1, least)
