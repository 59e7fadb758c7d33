"""95 % confidence intervals and tests of error rates counted on n images. Errors are fractions."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 10_000


class Interval(NamedTuple):
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        return {"estimate": self.estimate, "ci95": [self.low, self.high]}


def wilson(errors: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of an error rate. It lies within [0, 1] and has a width at 0 errors too.

    Raises:
        PipelineError: n < 1, or errors outside 0..n.
    """
    # As scipy's binomtest computes it, whose import takes longer than all else of a command that prints one interval.
    if n < 1 or not 0 <= errors <= n:
        raise PipelineError(f"{errors} errors of n={n}; n must be at least 1, and errors from 0 to n")
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share, p = z * z / n, errors / n
    centre, half = (p + share / 2) / (1 + share), z * math.sqrt(p * (1 - p) / n + share / n / 4) / (1 + share)
    return (0.0 if errors == 0 else centre - half), (1.0 if errors == n else centre + half)


def newcombe(errors_a: int, n_a: int, errors_b: int, n_b: int) -> Interval:
    """Error of a minus error of b, of independent samples (Newcombe 1998, method 10).

    For two nets on the same images it is wider than necessary; `paired_bootstrap` uses the outcome of each image.

    Raises:
        PipelineError: as `wilson`.
    """
    (low_a, high_a), (low_b, high_b) = wilson(errors_a, n_a), wilson(errors_b, n_b)
    a, b = errors_a / n_a, errors_b / n_b
    below = math.hypot(a - low_a, high_b - b)
    above = math.hypot(high_a - a, b - low_b)
    return Interval(a - b, a - b - below, a - b + above)


def paired_bootstrap(wrong_a: NDArray[np.bool_], wrong_b: NDArray[np.bool_], seed: int) -> Interval:
    """Error of a minus error of b on the same N images, with a percentile bootstrap interval over the images.

    Two classifiers that err on the same images get (0, 0, 0).

    Args:
        wrong_a: (N,) one entry an image.
        wrong_b: (N,) for the same images in the same order.
    Raises:
        PipelineError: as `mcnemar_exact`.
    """
    only_a, only_b, n = _discordant(wrong_a, wrong_b)
    # An image's difference is +1, -1 or 0, so N draws with replacement are one multinomial draw of three counts.
    import numpy as np  # here, since its import takes longer than all else of a command that prints one interval

    shares = np.array([only_a, only_b, n - only_a - only_b]) / n
    counts = np.random.default_rng(seed).multinomial(n, shares, size=RESAMPLES)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / n, [tail, 1 - tail])
    return Interval((only_a - only_b) / n, float(low), float(high))


def mcnemar_exact(wrong_a: NDArray[np.bool_], wrong_b: NDArray[np.bool_]) -> float:
    """Two-sided p-value of McNemar's exact test that a and b err equally often; 1 where they never disagree.

    Args:
        wrong_a: (N,) one entry an image.
        wrong_b: (N,) for the same images in the same order.
    Raises:
        PipelineError: no image, or different shapes.
    """
    from scipy.stats import binomtest

    only_a, only_b, _ = _discordant(wrong_a, wrong_b)
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def _discordant(wrong_a: NDArray[np.bool_], wrong_b: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Number of images on which only a errs, on which only b errs, and of all images."""
    if wrong_a.shape != wrong_b.shape or wrong_a.ndim != 1 or not wrong_a.size:
        raise PipelineError(f"outcomes of shapes {wrong_a.shape} and {wrong_b.shape}; need (N,) twice, N at least 1")
    a, b = wrong_a.astype(bool), wrong_b.astype(bool)
    return int((a & ~b).sum()), int((b & ~a).sum()), len(a)
