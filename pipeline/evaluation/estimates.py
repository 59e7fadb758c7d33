"""A number with its uncertainty over images and over runs, and what would settle a comparison."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

from pipeline.evaluation.intervals import LEVEL

Z = 1.959964  # standard deviations within which a normal value lies at LEVEL
END, POWER = (1 + LEVEL) / 2, 0.8  # quantiles: of an interval's end, and the chance that what is advised settles it
MOST = 10_000_000  # images or runs; a larger number is no advice


class Spread(NamedTuple):
    """How far a mean of runs that differ in their seed may be off: the half width of its 95 % interval."""

    half: float
    df: float = math.inf  # degrees of freedom of Student's t behind it; infinite for a normal law
    assumed: bool = False  # by a standard deviation from elsewhere, since the runs themselves are too few to show one
    runs: float = 1  # of each net; of two with different numbers, as many as have this spread: their harmonic mean
    nets: int = 1  # 2 for a difference

    def of(self, runs: float) -> Spread:
        """That of so many runs of each net, by the t test that will judge them: Welch's for two nets."""
        # Each further run of both adds 1 to Welch's degrees of freedom where one net has all of the variance, and 2 where the
        # nets have equal ones, as is assumed of single runs.
        each = self.nets if math.isinf(self.df) else min(max(self.df / (self.runs - 1), 1), self.nets)
        df = each * (runs - 1)
        return self._replace(half=self.half * _t(df) / _t(self.df) * math.sqrt(self.runs / runs), df=df, runs=runs)


class Estimate(NamedTuple):
    """An error, a difference of errors or another mean, at 95 % (`intervals.LEVEL`)."""

    value: float
    images: tuple[float, float] | None = None  # interval over images
    n: int = 0  # images behind it
    seeds: Spread | None = None  # None where nothing shows how far runs differ
    fixed: float = 0.0  # half width of what neither images nor runs can reduce

    @property
    def interval(self) -> tuple[float, float] | None:
        """Over all of these: they vary independently, so half widths add as squares."""
        if self.images is None and self.seeds is None:
            return None
        low, high = self.images or (self.value, self.value)
        rest = math.hypot(self.seeds.half if self.seeds else 0.0, self.fixed)
        return self.value - math.hypot(self.value - low, rest), self.value + math.hypot(high - self.value, rest)

    @property
    def over(self) -> str:
        """What the interval covers, in words."""
        seeds = self.seeds and ("an assumed spread of seeds" if self.seeds.assumed else "seeds")
        return " and ".join(filter(None, ["images" if self.images else None, seeds]))

    @property
    def df(self) -> float:
        """Degrees of freedom of Student's t, the law of the whole.

        They grow with the part of the variance that images have (Satterthwaite 1946). Infinite, for the normal law, where no spread of few runs is part of it.
        """
        if self.interval is None or not (self.seeds and self.seeds.half):
            return math.inf
        return self.seeds.df * ((self.interval[1] - self.interval[0]) / 2 / self.seeds.half) ** 4

    def p(self, distance: float) -> float:
        """Two-sided p-value that the true value lies `distance` away, by the interval's width and `df`."""
        assert self.interval is not None
        return _p(distance, (self.interval[1] - self.interval[0]) / 2, self.df)

    def settled_by(self, distance: float) -> str:
        """How many images or runs, more than there are, would tell the value from one at this distance, with power 0.8."""
        images = (self.images[1] - self.images[0]) / 2 if self.images else 0.0
        seeds = self.seeds or Spread(0.0)
        runs = "runs of each" if seeds.nets > 1 else "runs"

        def enough(images: float, seeds: Spread) -> bool:
            parts = (images, math.inf), (self.fixed, math.inf), (seeds.half, seeds.df)
            half = math.hypot(*(half for half, _ in parts))
            # Of five values, four are less than this beyond the true one.
            beyond = math.hypot(*(half * _t(df, POWER) / _t(df) for half, df in parts))
            return half + beyond < distance

        if seeds.half and enough(images, seeds.of(math.inf)):
            return _advice(seeds.runs, runs, lambda number: enough(images, seeds.of(number)))
        if images and enough(0.0, seeds):
            return _advice(self.n, "images", lambda number: enough(images * math.sqrt(self.n / number), seeds))
        if images and seeds.half and enough(0.0, seeds.of(math.inf)):
            return f"it takes more images than these {self.n:,}, and more {runs}, to settle it"
        return f"no practical number of {'images' if images else runs} would settle it"


def _t(df: float, quantile: float = END) -> float:
    """Student's; the normal law's for infinite degrees of freedom."""
    if math.isinf(df):
        return NormalDist().inv_cdf(quantile)
    from scipy.stats import t

    return float(t.ppf(quantile, df))


def _p(distance: float, half_width: float, df: float) -> float:
    if half_width == 0:
        return 1.0 if distance == 0 else 0.0
    if math.isinf(df):
        return math.erfc(distance / half_width * Z / math.sqrt(2))
    from scipy.stats import t

    return float(2 * t.sf(distance / half_width * _t(df), df))


def _advice(there: float, what: str, enough: Callable[[int], bool]) -> str:
    """The least number that is enough, above what is there."""
    number = bisect_left(range(MOST + 1), True, int(there) + 1, key=enough)
    if number > MOST:
        return f"no practical number of {what} would settle it"
    number += -number % 10 ** max(0, len(str(number)) - 2)  # two digits suffice
    return f"about {number:,} {what} would settle it (power {POWER})"


def between_runs(a: Sequence[float], b: Sequence[float], assumed_std: float | None) -> Spread | None:
    """Of a difference of means over runs; None where nothing shows how far runs differ.

    By Welch's t where both have several runs, else by a standard deviation that is assumed from other runs.
    """
    runs = 2 / (1 / len(a) + 1 / len(b))
    if min(len(a), len(b)) < 2:
        return _assumed(assumed_std, runs, 2)
    from scipy.stats import ttest_ind

    if len({*a}) == len({*b}) == 1:
        return Spread(0.0)
    test = ttest_ind(a, b, equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    return Spread(float(high - low) / 2, float(test.df), runs=runs, nets=2)


def between_runs_of_one(values: Sequence[float], assumed_std: float | None) -> Spread | None:
    """Of a mean over runs of one net, by Student's t; for a single run as `between_runs`."""
    if len(values) < 2:
        return _assumed(assumed_std, 1, 1)
    from scipy.stats import sem

    df = len(values) - 1
    return Spread(float(sem(values)) * _t(df), df, runs=len(values))


def _assumed(std: float | None, runs: float, nets: int) -> Spread | None:
    return None if std is None else Spread(Z * std * math.sqrt(nets / runs), assumed=True, runs=runs, nets=nets)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the p-values for which the chance of any false rejection stays at the level."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, p_values[at] * (len(p_values) - rank)))
        adjusted[at] = largest
    return adjusted
