"""Learning rate and image side as pure functions of the step, and of the little that only a training itself can tell."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from pipeline.config import RecipeConfig


@dataclass
class Plateau:
    """When the learning rate falls because the error has stopped falling (Sec. 3.4); kept in the checkpoint."""

    best: float = math.inf  # lowest validation error that counted as an improvement, a fraction
    waited: int = 0  # validations since then
    drops: int = 0

    def saw(self, error: float, recipe: RecipeConfig) -> None:
        """Takes note of a validation: recipe.plateau_patience of them without an improvement are a drop.

        The paper does not say what a plateau is. Here an improvement is an error lower by recipe.plateau_margin than the
        last one: of errors that only scatter, some are always the lowest so far.
        """
        if error < self.best - recipe.plateau_margin:
            self.best, self.waited = error, 0
            return
        self.waited += 1
        if self.waited >= recipe.plateau_patience:
            self.waited, self.drops = 0, self.drops + 1


def lr_at(step: int, recipe: RecipeConfig, warming: bool = False, drops: int = 0) -> float:
    """Learning rate of optimiser step `step`, counted from 0.

    multistep: divided by 10 at each milestone (Sec. 3.4, 4.2). `warming` holds it at recipe.warmup_lr, the start that
    ResNet-110 needs until its train error has fallen below recipe.warmup_until_err.
    plateau: the same, divided by 10 `drops` times, see `Plateau`.
    one_cycle: straight up from 1/25 of the peak for warmup_fraction of the steps, then straight down to 0
    (Smith and Topin 2017, arXiv 1708.07120).
    cosine: the same rise, then down along half a cosine, recipe.cycles times (Loshchilov and Hutter 2016, arXiv
    1608.03983).
    """
    if recipe.schedule in ("multistep", "plateau"):
        fallen = bisect_right(recipe.milestones, step) if recipe.schedule == "multistep" else drops
        return recipe.warmup_lr if warming else recipe.lr * 0.1**fallen
    length = recipe.max_steps // recipe.cycles
    step = step % length if recipe.cycles > 1 else step
    rise = recipe.warmup_fraction * length
    if step < rise:
        return recipe.lr * (1 / 25 + (1 - 1 / 25) * step / rise)
    left = max(0.0, (length - step) / (length - rise))
    return recipe.lr * (left if recipe.schedule == "one_cycle" else (1 - math.cos(math.pi * left)) / 2)


def side_at(step: int, recipe: RecipeConfig) -> int:
    """Side in pixels of the training images of step `step`: small ones at first, if the recipe says so.

    Early steps learn from small images as well as from large ones, at a cost that falls with the side's square
    (Howard et al. 2018, fast.ai's entry to DAWNBench).
    """
    small = recipe.small_side and step < recipe.small_fraction * recipe.max_steps
    return recipe.small_side if small else recipe.augment.crop
