"""How a run was trained: of its recorded parameters those that decide its result, the net, its rate and its seed apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Runs that differ in one of these are not repetitions of each other, nor to be compared as if only their nets differed.
_KEYS = (
    "precision",  # what recipe.precision came to
    "data.split",
    "data.split_seed",
    "data.num_val",
    "data.num_train",
    "model.init_fan",
    "model.shortcut_zeros",
    "start.weights",
    "start.head",
    "start.backbone_lr",
    "trainer.sync_batchnorm",
)
_APART = ("recipe.lr", "recipe.precision")


def setting(params: Mapping[str, Any]) -> dict[str, str]:
    """By dotted key, in its order; values as MLflow has them, texts."""
    chosen = (key for key in sorted(params) if key in _KEYS or (key.startswith("recipe.") and key not in _APART))
    return {key: str(params[key]) for key in chosen}
