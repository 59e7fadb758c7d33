"""A number with its uncertainty over images and over runs, and what would settle a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.evaluation.intervals import LEVEL

Z = 1.959964  # standard deviations within which a normal value lies at LEVEL
POWER_Z = 0.841621  # and those that power 0.8 adds
MOST = 10_000_000  # images or runs; a larger number is no advice


class Estimate(NamedTuple):
    """An error, a difference of errors or another mean, at 95 % (`intervals.LEVEL`)."""

    value: float
    images: tuple[float, float] | None = None  # interval over images
    n: int = 0  # images behind it
    seeds: float | None = None  # half width over runs that differ in their seed
    runs: int = 1  # runs of each net behind it

    @property
    def interval(self) -> tuple[float, float] | None:
        """Over both: images and seeds vary independently, so half widths add as squares."""
        if self.images is None and self.seeds is None:
            return None
        low, high = self.images or (self.value, self.value)
        seeds = self.seeds or 0.0
        return self.value - math.hypot(self.value - low, seeds), self.value + math.hypot(high - self.value, seeds)

    @property
    def over(self) -> str:
        parts = ["images"] if self.images else []
        return " and ".join([*parts, "seeds"] if self.seeds is not None else parts)

    def p(self, distance: float) -> float:
        """Two-sided p-value that the true value lies `distance` away, by the interval's width and a normal law."""
        assert self.interval is not None
        return _p(distance, (self.interval[1] - self.interval[0]) / 2)

    def settled_by(self, distance: float) -> str:
        """How many images or runs would tell the value from one at this distance, with power 0.8."""
        most = (distance * Z / (Z + POWER_Z)) ** 2  # the square of the half width that is needed
        images = ((self.images[1] - self.images[0]) / 2) ** 2 if self.images else 0.0
        seeds = (self.seeds or 0.0) ** 2
        if seeds and images < most:
            return _advice(self.runs * seeds / (most - images), "runs of each net")
        if seeds < most:
            return _advice(self.n * images / (most - seeds), "images")
        if most and images:
            return f"it takes more images than these {self.n:,}, and more runs of each net, to settle it"
        return _advice(math.inf, "images" if images else "runs of each net")


def _p(distance: float, half_width: float) -> float:
    if half_width == 0:
        return 1.0 if distance == 0 else 0.0
    return math.erfc(distance / half_width * Z / math.sqrt(2))


def _advice(number: float, what: str) -> str:
    if number > MOST:
        return f"no practical number of {what} would settle it"
    digits = 1 - math.floor(math.log10(number)) if number >= 100 else 0  # two digits suffice
    return f"about {max(2, round(math.ceil(number), digits)):,.0f} {what} would settle it (power 0.8)"


def between_runs(a: Sequence[float], b: Sequence[float], known_std: float | None) -> float | None:
    """Half width of the 95 % interval of a difference of means over runs; None where nothing shows how far runs differ.

    By Welch's t where both have several runs, else by a standard deviation that is known from elsewhere.
    """
    if min(len(a), len(b)) < 2:
        return None if known_std is None else Z * known_std * math.sqrt(1 / len(a) + 1 / len(b))
    from scipy.stats import ttest_ind

    if len({*a}) == len({*b}) == 1:
        return 0.0
    low, high = ttest_ind(a, b, equal_var=False).confidence_interval(LEVEL)
    return float(high - low) / 2


def between_runs_of_one(values: Sequence[float]) -> float | None:
    """Half width of the 95 % interval of a mean over runs, by Student's t; None for a single run."""
    if len(values) < 2:
        return None
    from scipy.stats import sem, t

    return float(sem(values) * t.ppf((1 + LEVEL) / 2, len(values) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the p-values for which the chance of any false rejection stays at the level."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, p_values[at] * (len(p_values) - rank)))
        adjusted[at] = largest
    return adjusted
