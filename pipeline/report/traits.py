"""What the report asks of a net: which training it is, of what kind, by which recipe, and from where."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Literal, Protocol

from pipeline.record import Net

Kind = Literal["plain", "residual", "others"]


class Identified(Protocol):
    """A net, or a trial of a sweep."""

    @property
    def key(self) -> str | None: ...

    @property
    def run_id(self) -> str | None: ...


def by_validation(net: Net) -> float:
    """Sort key: validation error; nets without one come last, in their order, as test errors must choose nothing."""
    return math.inf if net.val_err1 is None else net.val_err1


def ids(run: Identified) -> set[str]:
    """Identifiers of a run or trial in other files: its key and its id in MLflow."""
    return {name for name in (run.key, run.run_id) if name}


def same_training(a: Net, b: Net) -> bool:
    if a.snapshot != b.snapshot:
        return False
    return bool(ids(a) & ids(b)) or bool(a.checkpoint_sha256 and a.checkpoint_sha256 == b.checkpoint_sha256)


def as_the_paper(net: Net) -> bool:
    """Whether it trained here, from random weights, on the whole split, to its end."""
    return net.steps > 0 and not origin(net)


def origin(net: Net) -> str:
    """How a net's training differs from the paper's in its images or initial weights; "" if it does not."""
    parts = [f"{net.num_train:,} images"] if net.num_train else []
    parts += [f"from {net.start}"] if net.start else []
    parts += [f"snapshot at {net.snapshot:,}"] if net.snapshot else []
    return ", ".join(parts)


def kind_of(net: Net) -> Kind:
    """Whether a net, or a detector's, is plain, residual, or one of the other systems that the paper compares."""
    if net.model.net.family not in ("cifar", "imagenet"):
        return "others"
    return "residual" if net.model.residual else "plain"


def recipe_of(net: Net) -> dict[str, Any]:
    """Settings that decide a result beside net, rate, length, warm-up and seed, by our keys; {} if made elsewhere."""
    if net.recipe is None:
        return {}
    recipe = asdict(net.recipe)
    flat = {key: value for key, value in recipe.items() if key not in _APART}
    flat |= {f"augment.{key}": value for key, value in recipe["augment"].items()}
    model = {key: getattr(net.model, key) for key in ("init_fan", "shortcut_zeros", "norm_scale")}
    return {
        **flat,
        **model,
        "split": net.split,
        "sync_batchnorm": net.sync_batchnorm,
        "trainer.callbacks": net.callbacks,
    }


_APART = ("augment", "lr", "max_steps", "warmup_lr", "warmup_until_err")


def has_warm_up(net: Net) -> bool:
    return net.recipe is not None and net.recipe.warmup_lr > 0
