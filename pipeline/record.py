"""The one record of a trained net: what it is, how it was trained, its results.

Training and `adopt` write it into the weights' header and into MLflow (tag `pipeline.net`); the ensemble adds the weight,
evaluation adds test errors, the report reads it. A new fact about nets is a new field here and nowhere else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pipeline.config import AugmentConfig, ModelConfig, RecipeConfig
from pipeline.config.section import Share, kinds
from pipeline.errors import PipelineError


@dataclass(frozen=True, kw_only=True)
class Net:
    """A trained net. Errors are fractions, None if not measured. Steps are optimiser steps."""

    key: str  # of the run, see `pipeline.run.key`
    code: str = ""  # version of the code that decides the weights, see there; "": adopted, or not recorded
    run_id: str = ""  # in MLflow; "" until MLflow has answered

    # Architecture and input.
    model: ModelConfig
    num_classes: int
    in_channels: int
    normalize: str
    augment: AugmentConfig
    params: int = 0  # parameters
    macs: int = (
        0  # multiply-adds for one image of the training size; of a detector, those of its backbone as a classifier
    )
    checkpoint_sha256: str = ""  # of the file of weights, whose own header leaves it out

    # Training.
    data: str  # content hash of the store
    split: str  # holdout, or full: trained on the validation images too
    num_train: int = 0  # training images; 0 for all of the split
    seen: tuple[str, ...] = ()  # content hashes of the data sets whose validation images were trained on
    recipe: RecipeConfig | None = None  # with the resolved precision; None: adopted
    seed: int | None = None  # None: adopted
    start: str = ""  # weights that training started from, as tables name them; "" for random ones
    started: str = ""  # which weights these are, see `run.start.Start.identity`; "": random ones, or not recorded
    sync_batchnorm: bool = True
    callbacks: str = ""  # trainer.callbacks as JSON, since they may change the weights; "": none, or not recorded
    steps: int = 0  # of the training; 0: adopted

    # Results.
    complete: bool = False  # trained to the end of the recipe, `ended` included, not stopped by a sweep's scheduler
    ended: str = ""  # why it came to its end before recipe.max_steps; "" if it did not
    step: int = 0  # of the best checkpoint
    snapshots: tuple[tuple[int, str], ...] = ()  # step and sha256 of the weights after each cycle of the learning rate
    snapshot: int = 0  # step of the snapshot that this record is of; 0 for the best checkpoint
    val_err1: Share | None = None  # None: no validation images, or trained on them
    val_err5: Share | None = None
    seconds: float | None = None  # wall time of training and validation, over all attempts
    processors: tuple[str, ...] = ()  # of the attempts, each kind once: "2 threads", "8 GPUs"; () if not recorded
    images_per_s: float | None = None  # of the last attempt, validation included

    # In an ensemble.
    weight: float | None = None  # in the average; None for other nets
    temperature: float = 1.0  # its logits are divided by it before averaging

    # Evaluation: errors on the test images.
    test_err1: Share | None = None
    test_err5: Share | None = None
    ci95: tuple[Share, Share] | None = None  # Wilson's interval of test_err1
    ci95_err5: tuple[Share, Share] | None = None

    @property
    def rank(self) -> tuple[float | str, ...]:
        """Sorts nets, the best on validation images first; for equal ones, what no change of the code affects decides."""
        errors = self.val_err1 or 0.0, self.val_err5 or 0.0
        return *errors, self.name, self.lr or 0.0, self.seed or 0, self.snapshot, self.key

    @property
    def name(self) -> str:
        """The one display name: ResNet-56."""
        return self.model.name

    @property
    def lr(self) -> float | None:
        return None if self.recipe is None else self.recipe.lr

    @property
    def setting(self) -> str:
        """Equal for nets that were trained alike, whatever their architecture, learning rate and seed."""
        recipe = None if self.recipe is None else {**asdict(self.recipe), "lr": None}
        wiring = (self.model.init_fan, self.model.shortcut_zeros, self.model.norm_scale, self.sync_batchnorm)
        start = self.start, self.started
        return json.dumps([recipe, self.split, self.num_train, start, self.callbacks, wiring], sort_keys=True)

    @property
    def training(self) -> Hashable:
        """Equal for nets of one training, which code of different versions may have repeated."""
        return self.data, self.model, self.setting, self.lr, self.seed

    def to_json(self) -> dict[str, Any]:
        """Plain values, with `name` for people who read the file."""
        return {"name": self.name, **asdict(self)}

    def to_tag(self) -> str:
        """The value of MLflow's tag `pipeline.net`; the id of the run that has the tag is left out."""
        return json.dumps({**self.to_json(), "run_id": ""})


def from_json(values: Mapping[str, Any]) -> Net:
    """The record that `Net.to_json` wrote; missing fields take their defaults.

    Raises:
        PipelineError: not the record of a net.
    """
    types = kinds(Net)
    try:
        kept = {key: value for key, value in values.items() if key in types}
        kept["model"] = ModelConfig(**kept["model"])
        kept["augment"] = AugmentConfig(**kept["augment"])
        kept["recipe"] = _recipe(kept.get("recipe"))
        for key in ("seen", "processors", "ci95", "ci95_err5"):
            if kept.get(key) is not None:
                kept[key] = tuple(kept[key])
        kept["snapshots"] = tuple((int(step), digest) for step, digest in kept.get("snapshots", ()))
        net = Net(**kept)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PipelineError(f"not the record of a net: {error}") from None
    for key, kind in types.items():
        if not fits(getattr(net, key), kind):
            raise PipelineError(f"not the record of a net: {key}={getattr(net, key)!r}")
    return net


@cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(kind), get_args(kind)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value from outside has the type and the range of its field; numbers are finite."""
    if kind is float:  # the two that there are many of come first
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    origin, options = _parts(kind)
    if origin in (UnionType, Union):  # the latter of an Annotated type
        return any(fits(value, option) for option in options)
    if origin is Literal:
        return value in options
    if origin is tuple and options[-1] is not Ellipsis:
        return isinstance(value, tuple) and len(value) == len(options) and all(map(fits, value, options))
    if origin in (tuple, list):
        return isinstance(value, origin) and all(fits(item, options[0]) for item in value)
    if origin is Annotated:
        return fits(value, options[0]) and all(value in limit for limit in options[1:])
    if origin is not None:
        return isinstance(value, origin)
    if isinstance(kind, type) and is_dataclass(kind):
        return isinstance(value, kind) and all(fits(getattr(value, key), own) for key, own in kinds(kind).items())
    return isinstance(value, kind)


def best_on_validation(nets: Sequence[Net]) -> Net | None:
    """The net with the lowest validation error, of equal ones the first.

    None if a net of several has none: only the test error could then choose, and a test error must choose nothing.
    """
    if len(nets) > 1 and any(net.val_err1 is None for net in nets):
        return None
    return min(nets, key=lambda net: net.val_err1 or 0.0, default=None)


def of_newest_code(newest_first: Sequence[Net], current: str | None = None) -> list[Net]:
    """The nets without those whose training another version of the code repeated.

    Those by the version `current` count, else those by the version that trained last. No adopted net repeats another.
    """
    code = dict[Hashable, str]()
    for net in sorted(newest_first, key=lambda net: net.code != current):
        code.setdefault(net.training, net.code)
    return [net for net in newest_first if net.recipe is None or net.code == code[net.training]]


def _recipe(values: Mapping[str, Any] | None) -> RecipeConfig | None:
    return RecipeConfig(**{**values, "augment": AugmentConfig(**values["augment"])}) if values else None
