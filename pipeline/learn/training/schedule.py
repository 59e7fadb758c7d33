"""Learning rate, image side, early end: pure functions of the step and of the training's state (warm-up, drops at a plateau)."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from pipeline.config import RecipeConfig


@dataclass
class Plateau:
    """Decides when the learning rate drops because the error has stopped falling (Sec. 3.4); kept in checkpoints."""

    best: float = math.inf  # lowest validation error that counted as an improvement, a fraction
    waited: int = 0  # validations since then
    drops: int = 0

    def update(self, error: float, recipe: RecipeConfig) -> None:
        """Adds an epoch's validation; recipe.plateau_patience of them without an improvement cause a drop.

        The paper does not define a plateau. Here an improvement is an error that lies recipe.plateau_margin below the
        last improvement, since among errors that only scatter, new minima always occur.
        """
        if error < self.best - recipe.plateau_margin:
            self.best, self.waited = error, 0
            return
        self.waited += 1
        if self.waited >= recipe.plateau_patience:
            self.waited, self.drops = 0, self.drops + 1


@dataclass
class Patience:
    """Decides when a training ends since its error has stopped falling; kept in checkpoints."""

    best: float = math.inf  # lowest validation error, a fraction
    step: int = 0  # at which it was
    waited: int = 0  # validations since then

    def update(self, error: float, step: int) -> None:
        """Adds the validation after `step` steps."""
        if error < self.best:
            self.best, self.step, self.waited = error, step, 0
        else:
            self.waited += 1


def lr_at(step: int, recipe: RecipeConfig, warming: bool = False, drops: int = 0) -> float:
    """Learning rate of optimiser step `step`, counted from 0.

    multistep: divided by 10 at each milestone (Sec. 3.4, 4.2). While `warming`, it is recipe.warmup_lr, which ResNet-110
    needs until its training error has fallen below recipe.warmup_until_err.
    plateau: the same, but divided by 10 `drops` times, see `Plateau`.
    one_cycle: rises linearly from 1/25 of the peak for warmup_fraction of the steps, then falls linearly to 0
    (Smith and Topin 2017, arXiv 1708.07120).
    cosine: the same rise, then half a cosine down, recipe.cycles times (Loshchilov and Hutter 2016, arXiv 1608.03983).
    """
    if recipe.schedule in ("multistep", "plateau"):
        fallen = bisect_right(recipe.milestones, step) if recipe.schedule == "multistep" else drops
        return recipe.warmup_lr if warming else recipe.lr * 0.1**fallen
    length = recipe.cycle_steps
    step = step % length if recipe.cycles > 1 else step
    rise = recipe.warmup_fraction * length
    if step < rise:
        return recipe.lr * (1 / 25 + (1 - 1 / 25) * step / rise)
    left = max(0.0, (length - step) / (length - rise))
    return recipe.lr * (left if recipe.schedule == "one_cycle" else (1 - math.cos(math.pi * left)) / 2)


def side_at(step: int, recipe: RecipeConfig) -> int:
    """Side in pixels of the training images of step `step`: recipe.small_side for its share of the steps, then the crop.

    Early steps learn as well from small images as from large ones, at a cost proportional to the side's square
    (Howard et al. 2018, fast.ai's entry to DAWNBench).
    """
    small = recipe.small_side and step < recipe.small_fraction * recipe.max_steps
    return recipe.small_side if small else recipe.augment.crop
