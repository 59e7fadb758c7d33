from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.evaluation.intervals import mcnemar_exact, newcombe, paired_bootstrap, wilson


def test_wilson_by_hand():
    # z = 1.95996: centre (0.5 + z**2 / 18) / (1 + z**2 / 9), half width z sqrt(0.25 / 9 + z**2 / 324) / (1 + z**2 / 9).
    assert wilson(4, 9) == pytest.approx((0.18878, 0.73335), abs=1e-5)
    assert wilson(0, 10) == (0.0, pytest.approx(0.27753, abs=1e-5))
    assert wilson(10, 10) == (pytest.approx(0.72247, abs=1e-5), 1.0)


@pytest.mark.parametrize("n", [1, 7, 150, 10_000])
def test_wilson_is_scipys(n):
    for errors in {0, 1, n // 10, n // 2, n - 1, n}:
        interval = binomtest(errors, n).proportion_ci(confidence_level=0.95, method="wilson")
        assert wilson(errors, n) == pytest.approx((interval.low, interval.high), abs=1e-14)


def test_wilson_covers_the_true_error_at_its_nominal_rate():
    counts, times = np.unique(np.random.default_rng(0).binomial(500, 0.08, size=2000), return_counts=True)
    covered = [low <= 0.08 <= high for low, high in (wilson(int(c), 500) for c in counts)]
    assert 0.93 < np.average(covered, weights=times) < 0.97


@pytest.mark.parametrize(("errors", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(errors, n):
    with pytest.raises(ValueError, match=f"^{errors} errors of n={n}; n must be at least 1, and errors from 0 to n$"):
        wilson(errors, n)


def test_newcombe_agrees_with_its_paper():
    # Newcombe 1998, Statistics in Medicine 17:873, Table II (a): 56/70 - 48/80, method 10: 0.0524 to 0.3339.
    assert newcombe(56, 70, 48, 80) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def outcomes(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    order = np.random.default_rng(1).permutation(len(a))
    return a[order], b[order]


def test_paired_bootstrap_agrees_with_resampled_images():
    a, b = outcomes(20, 30, 12, 438)
    difference = paired_bootstrap(a, b, seed=0)
    assert difference.estimate == pytest.approx(18 / 500)
    rng, per_image = np.random.default_rng(5), a.astype(float) - b
    draws = per_image[rng.integers(500, size=(5000, 500))].mean(axis=1)
    assert (difference.low, difference.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=3e-3)


def test_paired_bootstrap_is_decided_by_its_seed_and_antisymmetric():
    a, b = outcomes(5, 9, 4, 182)
    assert paired_bootstrap(a, b, seed=3) == paired_bootstrap(a, b, seed=3)
    assert paired_bootstrap(b, a, seed=3).estimate == -paired_bootstrap(a, b, seed=3).estimate
    assert paired_bootstrap(a, a, seed=3) == (0.0, 0.0, 0.0)


def test_pairing_makes_the_interval_narrower_than_independent_samples():
    a, b = outcomes(60, 30, 12, 398)
    paired, apart = paired_bootstrap(a, b, seed=0), newcombe(int(a.sum()), 500, int(b.sum()), 500)
    assert paired.high - paired.low < apart.high - apart.low


def test_mcnemar_by_hand():
    # 6 disagreements, split 5 to 1: 2 * (1 + 6) / 2**6.
    assert mcnemar_exact(*outcomes(3, 5, 1, 50)) == pytest.approx(14 / 64)
    assert mcnemar_exact(*outcomes(3, 3, 3, 50)) == mcnemar_exact(*outcomes(3, 0, 0, 50)) == 1.0


def test_outcomes_of_different_images_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        mcnemar_exact(np.ones(3, dtype=bool), np.ones(4, dtype=bool))
