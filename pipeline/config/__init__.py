"""Typed configuration: the only place where YAML becomes Python, a file a section.

conf/ holds the values, Hydra composes them (`pipeline.compose`), this package checks them. An unknown key, a missing
key, a wrong type and an impossible combination are all errors, raised before anything heavy is imported.
"""

from pipeline.config.data import SIDES, DataConfig
from pipeline.config.evaluation import EnsembleConfig, EvaluationConfig
from pipeline.config.model import CIFAR_DEPTHS, IMAGENET_DEPTHS, LARGE_STEM, NO_GLOBAL_POOL, OTHER_DEPTHS, ModelConfig
from pipeline.config.places import PathsConfig, TrackingConfig
from pipeline.config.recipe import AugmentConfig, RecipeConfig, StartConfig
from pipeline.config.root import Config, from_dict, with_overrides
from pipeline.config.sweep import SweepConfig
from pipeline.config.trainer import TrainerConfig

__all__ = [
    "CIFAR_DEPTHS",
    "IMAGENET_DEPTHS",
    "LARGE_STEM",
    "NO_GLOBAL_POOL",
    "OTHER_DEPTHS",
    "SIDES",
    "AugmentConfig",
    "Config",
    "DataConfig",
    "EnsembleConfig",
    "EvaluationConfig",
    "ModelConfig",
    "PathsConfig",
    "RecipeConfig",
    "StartConfig",
    "SweepConfig",
    "TrackingConfig",
    "TrainerConfig",
    "from_dict",
    "with_overrides",
]
