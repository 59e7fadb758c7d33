"""The whole configuration: rules between its sections, and how nested values become a `Config`."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from typing import Any, get_type_hints

from pipeline.config.model import LARGE_STEM, NO_GLOBAL_POOL, ModelConfig, family_defaults
from pipeline.config.section import Section, require
from pipeline.config.stages import (
    DataConfig,
    EnsembleConfig,
    EvaluationConfig,
    PathsConfig,
    ServeConfig,
    SweepConfig,
    TrackingConfig,
)
from pipeline.config.training import RecipeConfig, StartConfig, TrainerConfig
from pipeline.errors import PipelineError


@dataclass(frozen=True, kw_only=True)
class Config(Section):
    choices: dict[str, str] = field(default_factory=dict)  # the files of conf/ that it was composed of, by group
    seed: int = 0
    data: DataConfig
    model: ModelConfig
    recipe: RecipeConfig
    start: StartConfig = field(default_factory=StartConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    sweep: SweepConfig
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)

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
            f"evaluation.views=multi_scale with model.family={self.model.family}, which has no fully convolutional form (override: evaluation.views=ten_crop)",
        )
        require(
            not self.model.family.endswith("_small") or augment.crop >= 32,
            f"model.family={self.model.family} with images of {augment.crop} pixels; it needs at least 32",
        )
        require(
            self.model.family not in LARGE_STEM or augment.crop >= 64,
            f"model.family={self.model.family} with images of {augment.crop} pixels; choose its form for small images (override: model.family={self.model.family}_small)",
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
            self.recipe.schedule != "plateau" or self.trainer.val_every_epochs == 1,
            f"recipe.schedule=plateau with trainer.val_every_epochs={self.trainer.val_every_epochs}; recipe.plateau_patience counts epochs, each of which must end in a validation (override: trainer.val_every_epochs=1)",
        )
        self._require_searched_keys()

    def _require_searched_keys(self) -> None:
        for key in self.sweep.keys:
            self._require_key("sweep.space", key)
        for key in self.sweep.search.space if self.sweep.search else ():
            self._require_key("sweep.search.space", key)

    def _require_key(self, space: str, key: str) -> None:
        node: Any = self
        for part in key.split("."):
            require(
                is_dataclass(node) and part in {f.name for f in fields(node)},
                f"{space} names {key}, which is no key of the configuration; see `pipeline train --cfg job` for the keys",
            )
            node = getattr(node, part)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def from_dict(values: dict[str, Any]) -> Config:
    """A checked Config; keys that `values` lacks take their defaults.

    Raises:
        PipelineError: one line a problem: which key, what was given, what is allowed.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Config).validate_python(filled(values))
    except ValidationError as error:
        raise PipelineError("\n".join(_sentence(e) for e in error.errors())) from None


def defaults(section: type = Config) -> dict[str, Any]:
    """All defaults that depend on no other key, nested like the configuration."""
    values: dict[str, Any] = {}
    types = get_type_hints(section)
    for entry in fields(section):
        if is_dataclass(types[entry.name]):
            values[entry.name] = defaults(types[entry.name])
        elif entry.default is not MISSING:
            values[entry.name] = entry.default
        elif entry.default_factory is not MISSING:
            values[entry.name] = entry.default_factory()
    return values


def filled(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with the defaults that depend on another key: the family's net, the crop of small images."""
    data, model, recipe = values.get("data"), values.get("model"), values.get("recipe")
    if isinstance(model, dict):
        values = {**values, "model": {**family_defaults(str(model.get("family", "cifar"))), **model}}
    augment = recipe.get("augment", {}) if isinstance(recipe, dict) else None
    if isinstance(data, dict) and isinstance(augment, dict):
        side = data.get("image_size", DataConfig.image_size)
        values = {**values, "recipe": {**recipe, "augment": {"crop": side, **augment}}}  # type: ignore[dict-item]
    return values


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


def leaves(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted keys and values of a nested mapping, in its order."""
    result = []
    for key, value in values.items():
        # A sweep's space is one value, not a tree of keys, and so is its search.
        if isinstance(value, dict) and f"{prefix}{key}" not in ("sweep.space", "sweep.search"):
            result += leaves(value, f"{prefix}{key}.")
        else:
            result.append((f"{prefix}{key}", value))
    return result
