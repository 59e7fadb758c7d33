from __future__ import annotations

import math
import re

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
    apart = Estimate(value, seeds=between_runs(a, b, None))
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


STD = 0.005
TWO = (STD / math.sqrt(2), -STD / math.sqrt(2))  # runs with this standard deviation


@pytest.mark.parametrize(("runs", "distance"), [(TWO, 0.006), (TWO, 0.008), ((0.0,), 0.0125)])
def test_the_advised_number_of_runs_has_the_power_that_it_promises(runs, distance):
    """From two runs of each net and from one: at the advised number, four of five intervals exclude zero."""
    spread = between_runs([0.1 + run for run in runs], [0.1 - distance + run for run in runs], STD)
    text = Estimate(distance, seeds=spread).settled_by(distance)
    n = int(re.fullmatch(r"about (\d+) runs of each would settle it \(power 0.8\)", text)[1])
    draws = np.random.default_rng(0).normal([[0.1], [0.1 - distance]], STD, (400, 2, n))
    assert 0.74 < np.mean([between_runs(a, b, None).half < a.mean() - b.mean() for a, b in draws]) < 0.88


def test_the_advised_number_of_runs_of_one_net_has_the_power_that_it_promises():
    text = Estimate(0.005, seeds=between_runs_of_one([0.1 + run for run in TWO], None)).settled_by(0.005)
    n = int(re.fullmatch(r"about (\d+) runs would settle it \(power 0.8\)", text)[1])
    draws = np.random.default_rng(0).normal(0.005, STD, (400, n))
    assert 0.74 < np.mean([between_runs_of_one(each, None).half < each.mean() for each in draws]) < 0.88


def test_what_would_settle_it_is_images_or_runs():
    few = between_runs((0.11, 0.09, 0.10), (0.10, 0.08, 0.09), None)
    assert "runs of each would settle it" in Estimate(-0.01, (-0.011, -0.009), 10_000, few).settled_by(0.01)
    alike = between_runs((0.1001, 0.0999, 0.1), (0.0901, 0.0899, 0.09), None)
    assert "images would settle it" in Estimate(-0.01, (-0.03, 0.01), 1000, alike).settled_by(0.01)
    # Of Student's half width of 0.0072, a smaller part is needed beyond it than of a normal law's.
    enough = between_runs((0.10318, 0.09682, 0.1), (0.09318, 0.08682, 0.09), None)
    assert "images would settle it" in Estimate(-0.01, (-0.03, 0.01), 1000, enough).settled_by(0.01)
    both = Estimate(-0.01, (-0.03, 0.01), 1000, few).settled_by(0.01)
    assert both == "it takes more images than these 1,000, and more runs of each, to settle it"
    assert Estimate(0.0, (-0.01, 0.01), 1000).settled_by(0.0) == "no practical number of images would settle it"


def test_no_number_of_runs_makes_up_for_what_is_not_ours():
    ours = between_runs_of_one((0.071, 0.073, 0.075), None)
    close = Estimate(0.073, seeds=ours, fixed=0.0014)
    assert close.interval == pytest.approx(
        (0.073 - math.hypot(ours.half, 0.0014), 0.073 + math.hypot(ours.half, 0.0014))
    )
    assert close.settled_by(0.001) == "no practical number of runs would settle it"
    assert "runs would settle it (power 0.8)" in close.settled_by(0.003)


def test_the_spread_between_runs_is_theirs_where_there_are_several():
    a, b = (0.080, 0.082, 0.084), (0.070, 0.074, 0.072)
    # Welch: both variances 4e-6, so the difference's standard error is sqrt(8e-6 / 3) with 4 degrees of freedom.
    assert between_runs(a, b, 0.005) == pytest.approx((2.776445 * math.sqrt(8e-6 / 3), 4, False, 3, 2), rel=1e-5)
    known = between_runs(a, b[:1], 0.005)
    assert known == pytest.approx((1.959964 * 0.005 * math.sqrt(1 / 3 + 1), math.inf, True, 1.5, 2))
    assert between_runs(a[:1], b[:1], None) is None
    assert between_runs((0.1, 0.1), (0.2, 0.2), None) == Spread(0.0)
    assert between_runs_of_one(a, 0.005) == pytest.approx((4.302653 * 0.002 / math.sqrt(3), 2, False, 3, 1), rel=1e-5)
    assert between_runs_of_one(a[:1], 0.005) == pytest.approx((1.959964 * 0.005, math.inf, True, 1, 1))
    assert between_runs_of_one(a[:1], None) is None


def test_holm_by_hand():
    # 4 x 0.01, then 3 x 0.02 = 0.06, 2 x 0.03 stays at 0.06, 1 x 0.04 as well.
    assert holm([0.04, 0.01, 0.02, 0.03]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []
