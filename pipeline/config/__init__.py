"""Typed configuration: the only place where YAML becomes Python.

The dataclasses hold the keys with their types and defaults, conf/ holds what differs from them, Hydra composes conf/
(`pipeline.compose`), and `from_dict` checks the whole. An unknown key, a missing key, a wrong type and an impossible
combination are errors, raised before anything heavy is imported.
"""

from pipeline.config.limits import LimitsConfig
from pipeline.config.model import DETECTORS, IMAGENET_DEPTHS, LARGE_STEM, NO_GLOBAL_POOL, OTHER_DEPTHS, ModelConfig
from pipeline.config.root import Config
from pipeline.config.section import defaults
from pipeline.config.space import kind_of
from pipeline.config.stages import (
    ANNOTATED,
    SIDES,
    DataConfig,
    EnsembleConfig,
    EvaluationConfig,
    ExportConfig,
    PathsConfig,
    PredictConfig,
    ServeConfig,
    TrackingConfig,
)
from pipeline.config.sweep import BudgetConfig, ClusterConfig, SearchConfig, SweepConfig
from pipeline.config.training import SWEEP, AugmentConfig, RecipeConfig, StartConfig, TrainerConfig
from pipeline.config.values import filled, from_dict, leaves, with_overrides
