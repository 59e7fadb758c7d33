"""Made-up nets: the paper's, with any change."""

from __future__ import annotations

from typing import Any

from pipeline.config import IMAGENET_DEPTHS, AugmentConfig, ModelConfig, RecipeConfig
from pipeline.config.model import DECIDED, backbone_facts, family_defaults
from pipeline.evaluation.intervals import wilson
from pipeline.record import Net
from pipeline.report.paper import PROTOCOLS


def make_model(depth: int = 20, residual: bool | None = None, family: str = "", **changes: Any) -> ModelConfig:
    """A net with the paper's wiring; the depth tells the family unless one is given."""
    family = family or ("imagenet" if depth in IMAGENET_DEPTHS else "cifar")
    values = {**family_defaults(family), "family": family, "depth": depth}
    if family == "imagenet" and depth < 50:
        values["shortcut"] = "A"  # Table 2
    if residual is not None:
        values["residual"] = residual
    return ModelConfig(**{**values, **changes})


def make_detector(
    backbone: str = "resnet8", family: str = "faster_rcnn", anchor: int = 4, **changes: Any
) -> ModelConfig:
    """A detector over a net that model.backbone names."""
    decided = {key: backbone_facts(backbone)[key] for key in DECIDED}
    return ModelConfig(family=family, backbone=backbone, anchor=anchor, **decided, **changes)  # type: ignore[arg-type]


def make_recipe(dataset: str = "cifar10", steps: int = 64_000, **changes: Any) -> RecipeConfig:
    """The paper's, at the length given."""
    papers = PROTOCOLS.get(dataset, PROTOCOLS["cifar10"]).recipe
    augment = {"padding": 0, "min_side": 0, "max_side": 0, "pca_std": 0.0, "test_side": 0}
    augment |= {key[8:]: value for key, value in papers.items() if key.startswith("augment.")}
    values = {"plateau_patience": 3, "plateau_margin": 0.0, "warmup_lr": 0.0, "warmup_until_err": 0.8, "cycles": 1}
    values |= {"warmup_fraction": 0.0, "small_fraction": 0.0, "decay_norm": False, "precision": "fp32", "lr": 0.1}
    values |= {key: value for key, value in papers.items() if "." not in key}
    values |= {"max_steps": max(steps, 64_000), **changes}
    return RecipeConfig(augment=AugmentConfig(**augment), **values)


def make_net(
    depth: int = 20,
    *,
    error: float = 0.1,
    n: int = 10_000,
    steps: int = 64_000,
    dataset: str = "cifar10",
    **changes: Any,
) -> Net:
    """A net on the test images. recipe, model: changes of the paper's."""
    residual, seed = changes.pop("residual", True), changes.get("seed", 0)
    model = changes.pop("model", None) or make_model(depth, residual)
    recipe = changes.pop("recipe", None) or make_recipe(dataset, steps)
    wrong, name = round(error * n), f"{seed:04x}{depth:04x}{int(residual)}"
    values = {
        "key": name,
        "run_id": name + "0" * 23,
        "model": model,
        "num_classes": 10,
        "in_channels": 3,
        "normalize": recipe.normalize,
        "augment": recipe.augment,
        "params": 16_000 * depth,
        "macs": 2_300_000 * depth,
        "checkpoint_sha256": name.rjust(64, "0"),
        "data": "4f1b" * 16,
        "split": "holdout",
        "recipe": recipe,
        "seed": seed,
        "steps": steps,
        "complete": True,
        "val_err1": round(error * 0.97, 4),
        "test_err1": wrong / n,
        "test_err5": round(error / 25, 4),
        "ci95": wilson(wrong, n),
        "ci95_err5": wilson(round(error / 25 * n), n),
    }
    return Net(**{**values, **changes})
