"""The whole configuration: what its sections must agree on, and how values become it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from pipeline.config.data import DataConfig
from pipeline.config.evaluation import EnsembleConfig, EvaluationConfig
from pipeline.config.model import LARGE_STEM, NO_GLOBAL_POOL, ModelConfig
from pipeline.config.places import PathsConfig, TrackingConfig
from pipeline.config.recipe import RecipeConfig, StartConfig
from pipeline.config.section import Section, require
from pipeline.config.sweep import SweepConfig
from pipeline.config.trainer import TrainerConfig


@dataclass(frozen=True, kw_only=True)
class Config(Section):
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
        require(
            batch % ranks == 0,
            f"recipe.batch_size={batch} does not divide over {ranks} ranks (trainer.devices={self.trainer.devices} x trainer.num_nodes={self.trainer.num_nodes}); choose a multiple of {ranks}",
        )
        small, augment = self.data.format == "arrays", self.recipe.augment
        require(
            small == (augment.kind == "pad_crop"),
            f"recipe.augment.kind={augment.kind} with data.format={self.data.format}; arrays take pad_crop, shards take random_resized_crop or scale_jitter",
        )
        require(
            not small or augment.crop == self.data.image_size,
            f"recipe.augment.crop={augment.crop} with data.image_size={self.data.image_size}; images kept as arrays are cropped to their own size",
        )
        require(
            not small or self.evaluation.views == "single",
            f"evaluation.views={self.evaluation.views} with data.format=arrays; small images have a single view (override: evaluation.views=single)",
        )
        require(
            self.evaluation.views != "multi_scale" or self.model.family not in NO_GLOBAL_POOL,
            f"evaluation.views=multi_scale with model.family={self.model.family}, which has no fully convolutional form here (override: evaluation.views=ten_crop)",
        )
        require(
            not self.model.family.endswith("_small") or augment.crop >= 32,
            f"model.family={self.model.family} with images of {augment.crop} pixels; it needs 32",
        )
        require(
            self.model.family not in LARGE_STEM or augment.crop >= 64,
            f"model.family={self.model.family} with images of {augment.crop} pixels; take its form for small images (override: model.family={self.model.family}_small)",
        )
        require(
            small or augment.crop <= augment.test_side,
            f"recipe.augment.crop={augment.crop} with test_side={augment.test_side}; a test image's shorter side must be at least the crop (override: recipe.augment.test_side={augment.crop * 8 // 7})",
        )
        require(
            self.recipe.schedule != "plateau" or self.data.split == "holdout",
            f"recipe.schedule=plateau with data.split={self.data.split}, which validates on nothing; choose data.split=holdout, or recipe.schedule=multistep with the steps at which an earlier run fell",
        )
        require(
            self.recipe.precision != "tf32" or self.trainer.accelerator != "cpu",
            "recipe.precision=tf32 with trainer.accelerator=cpu; TF32 is how a GPU multiplies (override: recipe.precision=auto)",
        )
        for key in self.sweep.keys:
            self._require_key(key)

    def _require_key(self, key: str) -> None:
        node: Any = self
        for part in key.split("."):
            require(
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
