"""How sure an error rate is that was counted on n images. Fractions in, fractions out."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Difference(NamedTuple):
    """Error of a minus error of b, with its confidence interval; negative where a is better."""

    estimate: float
    low: float
    high: float


def wilson(errors: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of an error rate: lies within [0, 1] and has a width at 0 errors too.

    Raises:
        ValueError: n < 1, errors outside 0..n, or a level outside (0, 1).
    """
    if n < 1 or not 0 <= errors <= n:
        raise ValueError(f"{errors} errors of {n} images; need at least one image and 0 <= errors <= images")
    z = _z(level)
    p, spread = errors / n, z * z / n
    centre = (p + spread / 2) / (1 + spread)
    half = z * math.sqrt(p * (1 - p) / n + spread / (4 * n)) / (1 + spread)
    # The bound is 0 (or 1) exactly at 0 (or n) errors; rounding would leave 1e-18.
    return (0.0 if errors == 0 else centre - half), (1.0 if errors == n else centre + half)


def newcombe(errors_a: int, n_a: int, errors_b: int, n_b: int, level: float = 0.95) -> Difference:
    """Difference of two error rates of independent samples (Newcombe 1998, method 10); errors as `wilson`.

    For two nets on the same images it is wider than needed; where each image's outcome is known, `paired_bootstrap`
    is the sharper one.
    """
    (low_a, high_a), (low_b, high_b) = wilson(errors_a, n_a, level), wilson(errors_b, n_b, level)
    a, b = errors_a / n_a, errors_b / n_b
    below = math.hypot(a - low_a, high_b - b)
    above = math.hypot(high_a - a, b - low_b)
    return Difference(a - b, a - b - below, a - b + above)


def paired_bootstrap(
    wrong_a: NDArray[np.bool_],
    wrong_b: NDArray[np.bool_],
    seed: int,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Difference:
    """Error of a minus error of b on the same N images, with the percentile bootstrap's interval over images.

    Args:
        wrong_a, wrong_b: (N,) one entry an image, in the same order.
    Raises:
        ValueError: as `mcnemar_exact`, or a level outside (0, 1).

    Two classifiers that err on the same images get (0, 0, 0): the bootstrap cannot see what the sample does not hold.
    """
    only_a, only_b, n = _discordant(wrong_a, wrong_b)
    if not 0 < level < 1:
        raise ValueError(f"level={level}; it must lie between 0 and 1")
    # An image's difference is +1, -1 or 0, so N draws with replacement are one multinomial draw of three counts.
    shares = np.array([only_a, only_b, n - only_a - only_b]) / n
    counts = np.random.default_rng(seed).multinomial(n, shares, size=resamples)
    tail = (1 - level) / 2
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / n, [tail, 1 - tail])
    return Difference((only_a - only_b) / n, float(low), float(high))


def mcnemar_exact(wrong_a: NDArray[np.bool_], wrong_b: NDArray[np.bool_]) -> float:
    """Two-sided p-value of McNemar's exact test that a and b err equally often; 1 where they never disagree.

    Args:
        wrong_a, wrong_b: (N,) one entry an image, in the same order.
    Raises:
        ValueError: no image, or different shapes.
    """
    only_a, only_b, _ = _discordant(wrong_a, wrong_b)
    disagreements, tail, ways = only_a + only_b, 0, 1
    for i in range(min(only_a, only_b) + 1):
        tail += ways
        ways = ways * (disagreements - i) // (i + 1)
    return min(1.0, 2 * tail / 2**disagreements)  # whole numbers until the last division, so nothing underflows


def _discordant(wrong_a: NDArray[np.bool_], wrong_b: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Images on which only a errs, on which only b errs, and all images."""
    if wrong_a.shape != wrong_b.shape or wrong_a.ndim != 1 or not wrong_a.size:
        raise ValueError(f"outcomes of shapes {wrong_a.shape} and {wrong_b.shape}; need (N,) twice, N at least 1")
    a, b = wrong_a.astype(bool), wrong_b.astype(bool)
    return int((a & ~b).sum()), int((b & ~a).sum()), len(a)


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level={level}; it must lie between 0 and 1")
    return NormalDist().inv_cdf((1 + level) / 2)
