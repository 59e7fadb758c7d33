"""Typed configuration: the only place where YAML becomes Python.

conf/ holds the values, Hydra composes them (`pipeline.compose`), this module checks them. An unknown key, a missing
key, a wrong type and an impossible combination are all errors, raised before anything heavy is imported.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal

# Two families of the paper: Table 1 (ImageNet) and Sec. 4.2 (CIFAR, 6n + 2 layers).
IMAGENET_DEPTHS = (18, 34, 50, 101, 152)
CIFAR_DEPTHS = (20, 32, 44, 56, 110, 1202)
OTHER_DEPTHS = {"alexnet": (8,), "vgg": (11, 13, 16, 19), "googlenet": (22,)}
LARGE_STEM = ("alexnet", "vgg", "vgg_bn", "googlenet")  # they halve the map until little is left of a small image
SIDES = {"digits": 8, "cifar10": 32, "cifar100": 32}  # of published images, in pixels


class _Section:
    """A part of the configuration; pydantic, which checks it, refuses keys that are no fields."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (pydantic's own name and form)


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)


@dataclass(frozen=True, kw_only=True)
class DataConfig(_Section):
    """Where images come from, how they are stored, which of them training may see."""

    name: str
    source: Literal["digits", "cifar10", "cifar100", "folder", "imagenet"]
    path: str  # folder or archive that the user supplies (folder, imagenet); "" otherwise
    mirror: str  # folder or URL prefix searched before the official address; "" for none
    format: Literal["arrays", "shards"]
    image_size: int  # arrays: side of the square image; shards: longest shorter side kept, in pixels
    num_val: int  # images carved from train for validation, stratified by class
    num_train: int  # images of the split that are trained on, stratified by class; 0 for all
    split_seed: int
    split: Literal["holdout", "full"]  # full: train on every training image, no validation, no selection
    skip_corrupt: bool
    workers: int  # parallel decoders; 0 means one per CPU core

    def __post_init__(self) -> None:
        _require(
            self.num_val > 0, f"data.num_val={self.num_val}; it must be positive: selection needs images to choose on"
        )
        _require(self.num_train >= 0, f"data.num_train={self.num_train}; give a count, or 0 for all")
        _require(self.workers >= 0, f"data.workers={self.workers}; give a count, or 0 for one per core")
        needs_path = self.source in ("folder", "imagenet")
        _require(
            not needs_path or bool(self.path or self.mirror),
            f"data.source={self.source} without data.path; name the folder or archive that holds the images (override: data.path=/my/images)",
        )
        _require(
            needs_path or not self.path,
            f"data.path={self.path} with data.source={self.source}, which reads no data.path; leave it empty (override: data.path='') and name a folder that holds the published archive in data.mirror",
        )
        side = SIDES.get(self.source, self.image_size)
        _require(
            self.source not in SIDES or (self.format == "arrays" and self.image_size == side),
            f"data.format={self.format} and data.image_size={self.image_size} with data.source={self.source}, whose images are {side} pixels wide (override: data.format=arrays data.image_size={side})",
        )


@dataclass(frozen=True, kw_only=True)
class ModelConfig(_Section):
    """A residual or plain net of the paper, or one of those before it."""

    family: Literal[
        "cifar",
        "imagenet",
        "alexnet",
        "alexnet_small",
        "vgg",
        "vgg_small",
        "vgg_bn",
        "vgg_bn_small",
        "googlenet",
        "googlenet_small",
    ]
    depth: int
    residual: bool  # of cifar and imagenet; the others have no shortcut
    shortcut: Literal["A", "B", "C"]
    stride_on: Literal["1x1", "3x3"]  # which convolution of a bottleneck has the stride: paper 1x1, torchvision 3x3
    shortcut_zeros: Literal["after", "around"]  # where option A pads: behind the channels, or half before them
    init_fan: Literal["fan_in", "fan_out"]  # of He's initialisation: Caffe's default, or torchvision's

    def __post_init__(self) -> None:
        if self.family not in ("cifar", "imagenet"):
            known = OTHER_DEPTHS[self.family.split("_")[0]]
            _require(
                self.depth in known and not self.residual,
                f"model.family={self.family} with model.depth={self.depth}, model.residual={self.residual}; it has {', '.join(map(str, known))} layers and no shortcuts (override: model.depth={known[-1]} model.residual=false)",
            )
        elif self.family == "cifar":
            _require(
                self.depth >= 8 and (self.depth - 2) % 6 == 0,
                f"model.depth={self.depth} is not 6n+2; the paper's CIFAR nets are {', '.join(map(str, CIFAR_DEPTHS))} (override: model.depth=56)",
            )
            _require(
                self.shortcut != "C",
                "model.shortcut=C is defined for the ImageNet nets; CIFAR nets take A (the paper's) or B",
            )
        else:
            _require(
                self.depth in IMAGENET_DEPTHS,
                f"model.depth={self.depth} is not in Table 1; ImageNet nets are {', '.join(map(str, IMAGENET_DEPTHS))} (override: model.depth=50)",
            )


@dataclass(frozen=True, kw_only=True)
class StartConfig(_Section):
    """What a training starts from."""

    weights: str  # a file, run:<key or MLflow id>, torchvision:<name>; "" for random ones
    head: Literal["new", "kept"]  # the last layer's: drawn anew, for other classes, or taken too
    backbone_lr: float  # share of the learning rate that all other layers have; 0 keeps them as they are

    def __post_init__(self) -> None:
        _require(
            self.backbone_lr >= 0 and (self.weights != "" or self.backbone_lr == 1),
            f"start.backbone_lr={self.backbone_lr} with start.weights={self.weights!r}; it is at least 0, and 1 where training starts from random weights",
        )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(_Section):
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
        _require(
            self.crop > 0 and self.padding >= 0,
            f"recipe.augment.crop={self.crop}, padding={self.padding}; crop must be positive, padding not negative",
        )
        _require(
            self.pca_std == 0 or (self.pca_std > 0 and self.kind != "pad_crop"),
            f"recipe.augment.pca_std={self.pca_std} with kind={self.kind}; 0 for none, or above 0 for images kept as shards",
        )
        if self.kind == "scale_jitter":
            _require(
                self.crop <= self.min_side <= self.max_side,
                f"recipe.augment: crop={self.crop}, min_side={self.min_side}, max_side={self.max_side}; need crop <= min_side <= max_side",
            )


@dataclass(frozen=True, kw_only=True)
class RecipeConfig(_Section):
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
    ]  # see `pipeline.data.normalization`
    precision: Literal["auto", "fp32", "tf32", "bf16"]  # auto: bf16 where the hardware multiplies it
    augment: AugmentConfig

    def __post_init__(self) -> None:
        _require(
            self.batch_size > 0 and self.max_steps > 0,
            f"recipe.batch_size={self.batch_size}, recipe.max_steps={self.max_steps}; both must be positive",
        )
        _require(self.lr > 0, f"recipe.lr={self.lr}; it must be positive")
        _require(self.muon_lr >= 0, f"recipe.muon_lr={self.muon_lr}; it must be positive, or 0 for SGD everywhere")
        _require(
            0 <= self.label_smoothing < 1,
            f"recipe.label_smoothing={self.label_smoothing}; it must be at least 0, which is none, and below 1",
        )
        _require(
            self.milestones == sorted(set(self.milestones)) and all(0 < m < self.max_steps for m in self.milestones),
            f"recipe.milestones={self.milestones}; need rising steps between 0 and recipe.max_steps={self.max_steps}",
        )
        self._check_schedule()
        _require(
            self.small_side == 0 or (8 <= self.small_side < self.augment.crop and 0 < self.small_fraction < 1),
            f"recipe.small_side={self.small_side}, recipe.small_fraction={self.small_fraction} with recipe.augment.crop={self.augment.crop}; a side from 8 to below the crop for a share between 0 and 1 of the steps, or 0 for never",
        )
        _require(
            not self.warmup_lr or 0 < self.warmup_until_err < 1,
            f"recipe.warmup_until_err={self.warmup_until_err}; with a warm-up it must lie between 0 and 1",
        )

    def _check_schedule(self) -> None:
        _require(
            self.schedule == "multistep" or not self.milestones,
            f"recipe.schedule={self.schedule} takes no milestones (override: recipe.milestones=[])",
        )
        _require(
            self.cycles == 1 or (self.schedule == "cosine" and self.cycles > 1 and self.max_steps % self.cycles == 0),
            f"recipe.cycles={self.cycles} with recipe.schedule={self.schedule}, recipe.max_steps={self.max_steps}; 1, or with cosine a number that divides the steps",
        )
        if self.schedule == "plateau":
            _require(
                self.plateau_patience > 0 and 0 <= self.plateau_margin < 1,
                f"recipe.plateau_patience={self.plateau_patience}, recipe.plateau_margin={self.plateau_margin}; wait for at least 1 validation, and for less than the whole error",
            )
        if self.schedule in ("one_cycle", "cosine"):
            _require(
                not self.warmup_lr,
                f"recipe.schedule={self.schedule} takes no warmup_lr (override: recipe.warmup_lr=0)",
            )
            least = 0 if self.schedule == "cosine" else 1e-9
            _require(
                least <= self.warmup_fraction < 1,
                f"recipe.warmup_fraction={self.warmup_fraction}; it must lie between 0 and 1",
            )


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(_Section):
    """Where and how training runs; beyond rounding, only what `training.key` names changes what is learnt."""

    accelerator: Literal["auto", "cpu", "gpu"]
    devices: int  # ranks a node
    num_nodes: int
    launcher: Literal["auto", "ray"]  # auto: torchrun, Slurm or Lightning's own subprocesses, as the environment says
    threads: int  # torch threads a rank; 0 leaves torch's choice
    channels_last: bool
    compile: bool | Literal["auto"]  # torch.compile, for training; auto: where it was measured to be faster
    steps_per_call: int  # optimiser steps a call by Lightning; 0: 1 on a CPU, 25 on a GPU, as CUDA graphs
    sync_batchnorm: bool  # statistics over the global batch; false: per rank, as the paper's GPUs did
    val_every_epochs: int
    log_every_steps: int
    checkpoint_every_steps: int  # beside one at each epoch's end; 0 for none

    def __post_init__(self) -> None:
        for key in ("devices", "num_nodes", "val_every_epochs", "log_every_steps"):
            _require(getattr(self, key) > 0, f"trainer.{key}={getattr(self, key)}; it must be at least 1")
        _require(
            self.steps_per_call >= 0,
            f"trainer.steps_per_call={self.steps_per_call}; give a number of steps, or 0 for what suits the hardware",
        )
        _require(self.threads >= 0, f"trainer.threads={self.threads}; give a count, or 0 for torch's choice")
        _require(
            self.checkpoint_every_steps >= 0,
            f"trainer.checkpoint_every_steps={self.checkpoint_every_steps}; give a number of steps, or 0 for none inside an epoch",
        )

    @property
    def world_size(self) -> int:
        return self.devices * self.num_nodes


@dataclass(frozen=True, kw_only=True)
class SweepConfig(_Section):
    """Ray Tune's search: a grid over lists, draws from ranges, ASHA on validation error."""

    # Config key -> list of values, or {uniform|loguniform: [low, high]}; or a list of such grids, of lists alone.
    space: dict[str, Any] | list[dict[str, Any]]
    num_samples: int  # repeats of the grid; draws of the ranges
    grace_epochs: int  # ASHA stops no trial before this
    reduction_factor: int  # ASHA keeps 1 of this many at each rung; 0 runs every trial to its end
    cpus_per_trial: int
    gpus_per_trial: float
    max_concurrent: int  # 0: as resources allow
    max_failures: int
    address: str  # of a running Ray cluster; "" starts Ray on this machine

    def __post_init__(self) -> None:
        _require(
            bool(self.space) and (isinstance(self.space, dict) or all(self.space)),
            "sweep.space is empty; name at least one key and its values, for example {model.depth: [20, 32]}",
        )
        _require(
            self.num_samples > 0 and self.grace_epochs > 0,
            "sweep.num_samples and sweep.grace_epochs must be at least 1",
        )
        _require(
            self.reduction_factor == 0 or self.reduction_factor >= 2,
            f"sweep.reduction_factor={self.reduction_factor}; 0 turns ASHA off, else at least 2",
        )
        for key, least in {"cpus_per_trial": 1, "gpus_per_trial": 0, "max_concurrent": 0, "max_failures": 0}.items():
            _require(getattr(self, key) >= least, f"sweep.{key}={getattr(self, key)}; it must be at least {least}")
        for key in self.keys:
            _require(
                key.split(".")[0] in ("model", "recipe", "start", "seed") or key == "data.num_train",
                f"sweep.space names {key}; a sweep varies model.*, recipe.*, start.*, data.num_train or seed",
            )

    @property
    def keys(self) -> list[str]:
        """What `space` varies."""
        grids = self.space if isinstance(self.space, list) else [self.space]
        return list(dict.fromkeys(key for grid in grids for key in grid))


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig(_Section):
    """How members are chosen, on validation error alone."""

    selection: Literal["best_per_depth", "deepest_twice", "one_net", "top_k", "greedy", "snapshots"]
    size: int  # members at the most
    temperature: Literal["none", "validation"]  # of each member, fitted to validation images before averaging

    def __post_init__(self) -> None:
        _require(self.size > 0, f"ensemble.size={self.size}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(_Section):
    """How test images are shown to the nets; members are chosen as they were validated in training."""

    views: Literal["single", "ten_crop", "multi_scale"]  # averaged after the softmax; see `pipeline.data.views`
    batchnorm: Literal["running", "averaged"]  # statistics: training's running ones, or means taken after it
    runs: Literal["members", "all"]  # the members and the named run, or every finished training on these images as well


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(_Section):
    """MLflow."""

    uri: str  # "" for the SQLite store below paths.mlruns
    system_metrics_every_s: int  # 0 for none


@dataclass(frozen=True, kw_only=True)
class PathsConfig(_Section):
    """Folders that outlive one workspace; relative ones start at the repository's root."""

    runs: str
    mlruns: str


@dataclass(frozen=True, kw_only=True)
class Config(_Section):
    seed: int
    data: DataConfig
    model: ModelConfig
    recipe: RecipeConfig
    start: StartConfig
    trainer: TrainerConfig
    sweep: SweepConfig
    ensemble: EnsembleConfig
    evaluation: EvaluationConfig
    tracking: TrackingConfig
    paths: PathsConfig

    def __post_init__(self) -> None:
        batch, ranks = self.recipe.batch_size, self.trainer.world_size
        _require(
            batch % ranks == 0,
            f"recipe.batch_size={batch} does not divide over {ranks} ranks (trainer.devices={self.trainer.devices} x trainer.num_nodes={self.trainer.num_nodes}); choose a multiple of {ranks}",
        )
        small, augment = self.data.format == "arrays", self.recipe.augment
        _require(
            small == (augment.kind == "pad_crop"),
            f"recipe.augment.kind={augment.kind} with data.format={self.data.format}; arrays take pad_crop, shards take random_resized_crop or scale_jitter",
        )
        _require(
            not small or augment.crop == self.data.image_size,
            f"recipe.augment.crop={augment.crop} with data.image_size={self.data.image_size}; images kept as arrays are cropped to their own size",
        )
        _require(
            not small or self.evaluation.views == "single",
            f"evaluation.views={self.evaluation.views} with data.format=arrays; small images have a single view (override: evaluation.views=single)",
        )
        _require(
            not self.model.family.endswith("_small") or augment.crop >= 32,
            f"model.family={self.model.family} with images of {augment.crop} pixels; it needs 32",
        )
        _require(
            self.model.family not in LARGE_STEM or augment.crop >= 64,
            f"model.family={self.model.family} with images of {augment.crop} pixels; take its form for small images (override: model.family={self.model.family}_small)",
        )
        _require(
            small or augment.crop <= augment.test_side,
            f"recipe.augment.crop={augment.crop} with test_side={augment.test_side}; a test image's shorter side must be at least the crop (override: recipe.augment.test_side={augment.crop * 8 // 7})",
        )
        _require(
            self.recipe.schedule != "plateau" or self.data.split == "holdout",
            f"recipe.schedule=plateau with data.split={self.data.split}, which validates on nothing; choose data.split=holdout, or recipe.schedule=multistep with the steps at which an earlier run fell",
        )
        for key in self.sweep.keys:
            self._require_key(key)

    def _require_key(self, key: str) -> None:
        node: Any = self
        for part in key.split("."):
            _require(
                is_dataclass(node) and part in {f.name for f in fields(node)},
                f"sweep.space names {key}, which is no key of the configuration; see `pipeline train --cfg job` for the keys",
            )
            node = getattr(node, part)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def from_dict(values: dict[str, Any]) -> Config:
    """Config checked against the types above.

    Raises:
        ValueError: one line a problem: which key, what was given, what is allowed.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Config).validate_python(values)
    except ValidationError as error:
        raise ValueError("\n".join(_sentence(e) for e in error.errors())) from None


def _sentence(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"] if part != "Config")
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{key} is no key of the configuration; see `pipeline train --cfg job` for the keys"
    if error["type"].startswith("missing"):
        return f"{key} has no value; set it in conf/ or on the command line ({key}=...)"
    return f"{key}={error['input']!r}: {error['msg']}"


def with_overrides(config: Config, overrides: dict[str, Any]) -> Config:
    """`config` with dotted keys replaced, checked again."""
    values = config.to_dict()
    for key, value in overrides.items():
        *parents, leaf = key.split(".")
        node = values
        for part in parents:
            node = node[part]
        node[leaf] = value
    return from_dict(values)
