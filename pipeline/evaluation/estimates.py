"""A number with its uncertainty over images and over runs, and what would settle a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.evaluation.intervals import LEVEL

Z = 1.959964  # standard deviations within which a normal value lies at LEVEL
POWER_Z = 0.841621  # and those that power 0.8 adds
MOST = 10_000_000  # images or runs; a larger number is no advice


class Spread(NamedTuple):
    """How far a mean of runs that differ in their seed may be off: the half width of its 95 % interval."""

    half: float
    df: float = math.inf  # degrees of freedom of Student's t behind it; infinite for a normal law
    assumed: bool = False  # by a standard deviation from elsewhere, since the runs themselves are too few to show one


class Estimate(NamedTuple):
    """An error, a difference of errors or another mean, at 95 % (`intervals.LEVEL`)."""

    value: float
    images: tuple[float, float] | None = None  # interval over images
    n: int = 0  # images behind it
    seeds: Spread | None = None  # None where nothing shows how far runs differ
    runs: float = 1  # of each net, behind the spread; of two nets with different numbers, see `runs_of_each`

    @property
    def interval(self) -> tuple[float, float] | None:
        """Over both: images and seeds vary independently, so half widths add as squares."""
        if self.images is None and self.seeds is None:
            return None
        low, high = self.images or (self.value, self.value)
        seeds = self.seeds.half if self.seeds else 0.0
        return self.value - math.hypot(self.value - low, seeds), self.value + math.hypot(high - self.value, seeds)

    @property
    def over(self) -> str:
        """What the interval covers, in words."""
        seeds = self.seeds and ("an assumed spread of seeds" if self.seeds.assumed else "seeds")
        return " and ".join(filter(None, ["images" if self.images else None, seeds]))

    def p(self, distance: float) -> float:
        """Two-sided p-value that the true value lies `distance` away, by the interval's width.

        The law is Student's t, whose degrees of freedom grow with the part of the variance that images have
        (Satterthwaite 1946), and the normal one where no spread of few runs is part of it.
        """
        assert self.interval is not None
        half, df = (self.interval[1] - self.interval[0]) / 2, math.inf
        if self.seeds and self.seeds.half:
            df = self.seeds.df * (half / self.seeds.half) ** 4
        return _p(distance, half, df)

    def settled_by(self, distance: float) -> str:
        """How many images or runs would tell the value from one at this distance, with power 0.8."""
        most = (distance * Z / (Z + POWER_Z)) ** 2  # the square of the half width that is needed
        images = ((self.images[1] - self.images[0]) / 2) ** 2 if self.images else 0.0
        seeds = self.seeds.half**2 if self.seeds else 0.0
        if seeds and images < most:
            return _advice(self.runs * seeds / (most - images), "runs of each net")
        if seeds < most:
            return _advice(self.n * images / (most - seeds), "images")
        if most and images:
            return f"it takes more images than these {self.n:,}, and more runs of each net, to settle it"
        return _advice(math.inf, "images" if images else "runs of each net")


def _p(distance: float, half_width: float, df: float) -> float:
    if half_width == 0:
        return 1.0 if distance == 0 else 0.0
    if math.isinf(df):
        return math.erfc(distance / half_width * Z / math.sqrt(2))
    from scipy.stats import t

    return float(2 * t.sf(distance / half_width * t.ppf((1 + LEVEL) / 2, df), df))


def _advice(number: float, what: str) -> str:
    if number > MOST:
        return f"no practical number of {what} would settle it"
    digits = 1 - math.floor(math.log10(number)) if number >= 100 else 0  # two digits suffice
    return f"about {max(2, round(math.ceil(number), digits)):,.0f} {what} would settle it (power 0.8)"


def between_runs(a: Sequence[float], b: Sequence[float], assumed_std: float | None) -> Spread | None:
    """Of a difference of means over runs; None where nothing shows how far runs differ.

    By Welch's t where both have several runs, else by a standard deviation that is assumed from other runs.
    """
    if min(len(a), len(b)) < 2:
        return _assumed(assumed_std, 1 / len(a) + 1 / len(b))
    from scipy.stats import ttest_ind

    if len({*a}) == len({*b}) == 1:
        return Spread(0.0)
    test = ttest_ind(a, b, equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    return Spread(float(high - low) / 2, float(test.df))


def runs_of_each(a: Sequence[float], b: Sequence[float]) -> float:
    """As many runs of each net as have the spread of these: their numbers' harmonic mean."""
    return 2 / (1 / len(a) + 1 / len(b))


def between_runs_of_one(values: Sequence[float], assumed_std: float | None) -> Spread | None:
    """Of a mean over runs of one net, by Student's t; for a single run as `between_runs`."""
    if len(values) < 2:
        return _assumed(assumed_std, 1.0)
    from scipy.stats import sem, t

    df = len(values) - 1
    return Spread(float(sem(values) * t.ppf((1 + LEVEL) / 2, df)), df)


def _assumed(std: float | None, variances: float) -> Spread | None:
    """Of a value whose variance is so many times that of a single run."""
    return None if std is None else Spread(Z * std * math.sqrt(variances), assumed=True)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the p-values for which the chance of any false rejection stays at the level."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, p_values[at] * (len(p_values) - rank)))
        adjusted[at] = largest
    return adjusted
