"""What a detector asks of the other sections, and the keys that detectors and classifiers have to themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.config.model import DECIDED
from pipeline.config.section import defaults, require

if TYPE_CHECKING:
    from pipeline.config.root import Config

_DETECTORS_ALONE = ("model.anchor", "model.context", "recipe.rois", "evaluation.refine", "evaluation.scales")
_CLASSIFIERS_ALONE = (
    *("recipe.warmup_lr", "recipe.small_side", "recipe.small_fraction", "recipe.label_smoothing", "recipe.muon_lr"),
    "recipe.decay_norm",  # a detector's batch norm is frozen, and it has no other norm
    *("start.head", "trainer.compile", "trainer.cuda_graphs", "evaluation.views", "evaluation.batchnorm"),
)


def check_classifier(config: Config) -> None:
    _check_unused(config, _DETECTORS_ALONE, "detectors")


def check_detector(config: Config) -> None:
    recipe, family = config.recipe, config.model.family
    require(
        recipe.augment.kind == "whole",
        f"recipe.augment.kind={recipe.augment.kind} with model={family}; detectors see whole images, and so do their recipes, such as recipe=detection_voc (override: recipe.augment.kind=whole)",
    )
    require(
        config.data.format == "arrays" or recipe.augment.test_side > 0,
        f"recipe.augment.test_side=0 with data.format={config.data.format}; give the shorter side that images are tested at (override: recipe.augment.test_side=600)",
    )
    require(
        recipe.normalize != "per_pixel_mean",
        f"recipe.normalize=per_pixel_mean with model={family}, whose images differ in size (override: recipe.normalize=half)",
    )
    require(
        config.trainer.debug != "overfit",
        f"trainer.debug=overfit with model={family}, which has no training error that could fall to zero (override: trainer.debug=fast)",
    )
    for key, off in (("temperature", "none"), ("selection", "top_k")):
        value = getattr(config.ensemble, key)
        require(
            value not in ("validation", "greedy", "snapshots"),
            f"ensemble.{key}={value} with model={family}; detectors share their regions and count equally (override: ensemble.{key}={off})",
        )
    _check_unused(config, _CLASSIFIERS_ALONE, "classifiers")
    sweep, search = config.sweep, config.sweep.search
    for name, keys, off in (
        ("sweep.space", sweep.keys, ""),
        ("sweep.search.space", search.space if search else (), " sweep.search=null"),
    ):
        decided = sorted({*keys} & {f"model.{key}" for key in DECIDED})
        require(
            not decided,
            f"{name} holds {' and '.join(decided)} with model={family}, whose net model.backbone names; vary that (override: sweep.space={{model.backbone:[resnet20,plain20]}}{off})",
        )


def check_sides(config: Config) -> None:
    """A rule of `Config.check_composed`, and for each trial of a sweep.

    Raises:
        PipelineError: a detector's training images would shrink to nothing, or would keep their size whatever the recipe says.
    """
    augment, whole = config.recipe.augment, config.model.detects and not config.start.checkpoint
    sides = {key: getattr(augment, key) for key in ("min_side", "max_side") if getattr(augment, key)}
    require(
        not whole or config.data.format != "arrays" or not sides,
        f"{' and '.join(f'recipe.augment.{key}={side}' for key, side in sides.items())} with data.format=arrays, whose images keep their size (override: {' '.join(f'recipe.augment.{key}=0' for key in sides)})",
    )
    require(
        not whole or augment.min_side > 0 or augment.max_side == 0,
        f"recipe.augment.min_side=0 with recipe.augment.max_side={augment.max_side}; training images would be drawn down to a single pixel (override: recipe.augment.min_side={augment.max_side})",
    )


def _check_unused(config: Config, keys: Sequence[str], owners: str) -> None:
    """Raises PipelineError if a key that only `owners` have says anything, as neither its default nor false or 0 does."""
    used = {}
    for key in keys:
        name, leaf = key.split(".")
        section = getattr(config, name)
        value, usual = getattr(section, leaf), defaults(type(section))[leaf]
        if value and value != usual:
            used[key] = str(usual).lower()
    advice = " ".join(f"{key}={usual}" for key, usual in used.items())
    require(
        not used,
        f"{' and '.join(used)} with model={config.model.family}; only {owners} have {'them' if len(used) > 1 else 'it'} (override: {advice})",
    )
