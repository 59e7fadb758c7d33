from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_ind

from pipeline.evaluation.estimates import Estimate, Spread, between_runs, between_runs_of_one, holm
from pipeline.evaluation.intervals import newcombe


def test_half_widths_over_images_and_seeds_add_as_squares():
    both = Estimate(-0.02, (-0.05, 0.02), 1000, seeds=Spread(0.04))
    assert both.interval == pytest.approx((-0.07, -0.02 + math.hypot(0.04, 0.04)))
    assert both.over == "images and seeds" and Estimate(0.1, (0.0, 0.2), 10).over == "images"
    assert Estimate(0.1, (0.0, 0.2), 10, Spread(0.1, assumed=True)).over == "images and an assumed spread of seeds"
    assert Estimate(0.1).interval is None


def test_p_is_small_where_the_interval_ends_before_the_distance():
    estimate = Estimate(-0.02, (-0.03, -0.01), 1000)
    assert estimate.p(0.01) == pytest.approx(0.05, abs=1e-6)
    assert estimate.p(0.02) < 0.001 < estimate.p(0.005)
    assert Estimate(0.0, (0.0, 0.0), 10).p(0.0) == 1.0


def test_p_of_a_difference_between_runs_is_students():
    """Three runs against three: Welch's test itself, to the p-value."""
    a, b = (0.080, 0.083, 0.085), (0.070, 0.074, 0.072)
    value = (sum(a) - sum(b)) / 3
    apart = Estimate(value, seeds=between_runs(a, b, None), runs=3)
    assert apart.p(value) == pytest.approx(ttest_ind(a, b, equal_var=False).pvalue)
    images = Estimate(value, (value - 1, value + 1), 100, between_runs(a, b, None))
    assert images.p(1.0) == pytest.approx(0.05, abs=1e-3)  # the images' part decides, so the law is normal


def test_the_advised_number_of_images_has_the_power_that_it_promises():
    """A difference of 0.02 on 600 images; at the advised number, four of five intervals exclude zero."""
    apart = newcombe(60, 600, 72, 600)
    text = Estimate(-0.02, (apart.low, apart.high), 600).settled_by(0.02)
    n = int(text.split()[1].replace(",", ""))
    rng = np.random.default_rng(0)
    draws = zip(rng.binomial(n, 0.10, 300), rng.binomial(n, 0.12, 300), strict=True)
    assert 0.74 < np.mean([newcombe(int(a), n, int(b), n).high < 0 for a, b in draws]) < 0.88


def test_what_would_settle_it_is_images_or_runs():
    assert (
        Estimate(-0.01, seeds=Spread(0.02), runs=2).settled_by(0.01)
        == "about 17 runs of each net would settle it (power 0.8)"
    )
    few_runs = Estimate(-0.01, (-0.011, -0.009), 10_000, seeds=Spread(0.02))
    assert "runs of each net would settle it" in few_runs.settled_by(0.01)
    few_images = Estimate(-0.01, (-0.03, 0.01), 1000, seeds=Spread(0.001), runs=3)
    assert "images would settle it" in few_images.settled_by(0.01)
    assert "more images than these 1,000, and more runs" in Estimate(
        -0.01, (-0.03, 0.01), 1000, seeds=Spread(0.02)
    ).settled_by(0.01)
    assert Estimate(0.0, (-0.01, 0.01), 1000).settled_by(0.0) == "no practical number of images would settle it"


def test_the_spread_between_runs_is_theirs_where_there_are_several():
    a, b = (0.080, 0.082, 0.084), (0.070, 0.074, 0.072)
    # Welch: both variances 4e-6, so the difference's standard error is sqrt(8e-6 / 3) with 4 degrees of freedom.
    assert between_runs(a, b, 0.005) == pytest.approx((2.776445 * math.sqrt(8e-6 / 3), 4, False), rel=1e-5)
    known = between_runs(a, b[:1], 0.005)
    assert known == pytest.approx((1.959964 * 0.005 * math.sqrt(1 / 3 + 1), math.inf, True))
    assert between_runs(a[:1], b[:1], None) is None
    assert between_runs((0.1, 0.1), (0.2, 0.2), None) == Spread(0.0)
    assert between_runs_of_one(a, 0.005) == pytest.approx((4.302653 * 0.002 / math.sqrt(3), 2, False), rel=1e-5)
    assert between_runs_of_one(a[:1], 0.005) == pytest.approx((1.959964 * 0.005, math.inf, True))
    assert between_runs_of_one(a[:1], None) is None


def test_holm_by_hand():
    # 4 x 0.01, then 3 x 0.02 = 0.06, 2 x 0.03 stays at 0.06, 1 x 0.04 as well.
    assert holm([0.04, 0.01, 0.02, 0.03]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []
