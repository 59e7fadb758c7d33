"""One record of a trained net: what it is, how it was made, what it came to.

Training and `adopt` write it into the weights' header and into MLflow (tag `pipeline.net`); the ensemble adds a weight,
evaluation adds test errors, the report reads it. A new fact about nets is a new field here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pipeline.config import AugmentConfig, ModelConfig, RecipeConfig


@dataclass(frozen=True, kw_only=True)
class Net:
    """A trained net. Errors are fractions; None says "not measured". Steps are optimiser steps."""

    key: str  # of the run, see `pipeline.run.key`
    run_id: str = ""  # in MLflow; "" while it has not answered

    # What the weights are, and how images are shown to them.
    model: ModelConfig
    num_classes: int
    in_channels: int
    normalize: str
    augment: AugmentConfig
    params: int = 0  # learnt numbers
    macs: int = 0  # multiply-adds of one image of the size it was trained on
    checkpoint_sha256: str = ""  # of the weights' file; not in the file's own header

    # How they were made.
    data: str  # content hash of the store
    split: str  # holdout, or full for a net that was trained on the validation images too
    num_train: int = 0  # images it was trained on; 0 for all of the split
    seen: tuple[str, ...] = ()  # content hashes of data sets whose validation images it was trained on
    recipe: RecipeConfig | None = None  # with the precision that it came to; None: made elsewhere
    seed: int | None = None  # None: made elsewhere
    start: str = ""  # what training started from; "" for random weights
    sync_batchnorm: bool = True
    steps: int = 0  # of the training; 0: made elsewhere

    # What they came to.
    complete: bool = False  # trained to the recipe's end, not stopped by a sweep's scheduler
    step: int = 0  # of the checkpoint that was kept
    snapshots: tuple[tuple[int, str], ...] = ()  # step and sha256 of the weights that each cycle of the rate left
    snapshot: int = 0  # step of the snapshot that this is; 0 for the weights that the run chose
    val_err1: float | None = None  # None: no validation images, or ones that it was trained on
    val_err5: float | None = None
    seconds: float | None = None  # of training and validation, over all attempts
    images_per_s: float | None = None  # of the last attempt, validation included

    # In an ensemble's average; None outside.
    weight: float | None = None
    temperature: float = 1.0  # its logits are divided by it before averaging

    # On the test images; evaluation alone fills these.
    test_err1: float | None = None
    test_err5: float | None = None
    ci95: tuple[float, float] | None = None  # Wilson's interval of test_err1
    ci95_err5: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """The one display name: ResNet-56."""
        return self.model.name

    @property
    def lr(self) -> float | None:
        return None if self.recipe is None else self.recipe.lr

    @property
    def setting(self) -> str:
        """Equal for nets that were trained alike: all that decides a result but the net's size, its rate and its seed."""
        recipe = None if self.recipe is None else {**asdict(self.recipe), "lr": None}
        wiring = (self.model.init_fan, self.model.shortcut_zeros, self.sync_batchnorm)
        return json.dumps([recipe, self.split, self.num_train, self.start, wiring], sort_keys=True)

    def to_json(self) -> dict[str, Any]:
        """Plain values, `name` among them for people who read the file."""
        return {"name": self.name, **asdict(self)}

    def to_tag(self) -> str:
        """The record as MLflow's tag `pipeline.net` holds it; the id of the run that has the tag is left out."""
        return json.dumps({**self.to_json(), "run_id": ""})


def from_json(values: Mapping[str, Any]) -> Net:
    """The record that `Net.to_json` wrote, by this version or an earlier one; fields that it lacks take their defaults.

    Raises:
        ValueError: no record of a net.
    """
    names = {field.name for field in fields(Net)}
    kept = {key: value for key, value in values.items() if key in names}
    try:
        kept["model"] = ModelConfig(**kept["model"])
        kept["augment"] = AugmentConfig(**kept["augment"])
        kept["recipe"] = _recipe(kept.get("recipe"))
        for key in ("seen", "ci95", "ci95_err5"):
            if kept.get(key) is not None:
                kept[key] = tuple(kept[key])
        kept["snapshots"] = tuple((int(step), digest) for step, digest in kept.get("snapshots", ()))
        return Net(**kept)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no record of a net: {error}") from None


def _recipe(values: Mapping[str, Any] | None) -> RecipeConfig | None:
    return RecipeConfig(**{**values, "augment": AugmentConfig(**values["augment"])}) if values else None
