"""Learning rate and image side as pure functions of the step, so that a checkpoint needs no scheduler state."""

from __future__ import annotations

from bisect import bisect_right

from pipeline.config import RecipeConfig


def lr_at(step: int, recipe: RecipeConfig, warming: bool = False) -> float:
    """Learning rate of optimiser step `step`, counted from 0.

    multistep: divided by 10 at each milestone (Sec. 3.4, 4.2). `warming` holds it at recipe.warmup_lr, the start that
    ResNet-110 needs until its train error has fallen below recipe.warmup_until_err.
    one_cycle: straight up from 1/25 of the peak for warmup_fraction of the steps, then straight down to 0
    (Smith and Topin 2017, arXiv 1708.07120).
    """
    if recipe.schedule == "multistep":
        return recipe.warmup_lr if warming else recipe.lr * 0.1 ** bisect_right(recipe.milestones, step)
    rise = recipe.warmup_fraction * recipe.max_steps
    if step < rise:
        return recipe.lr * (1 / 25 + (1 - 1 / 25) * step / rise)
    return recipe.lr * max(0.0, (recipe.max_steps - step) / (recipe.max_steps - rise))


def side_at(step: int, recipe: RecipeConfig) -> int:
    """Side in pixels of the training images of step `step`: small ones at first, if the recipe says so.

    Early steps learn from small images as well as from large ones, at a cost that falls with the side's square
    (Howard et al. 2018, fast.ai's entry to DAWNBench).
    """
    small = recipe.small_side and step < recipe.small_fraction * recipe.max_steps
    return recipe.small_side if small else recipe.augment.crop
