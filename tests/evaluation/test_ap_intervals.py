"""Intervals of a detector's AP and of gains in it."""

from __future__ import annotations

import numpy as np
import pytest
from made_detections import FIRST, SECOND, found, made, objects, official

from pipeline.data.boxes import Detections
from pipeline.errors import PipelineError
from pipeline.evaluation.ap_intervals import interval, relative_gain
from pipeline.evaluation.detection import CocoMatches


def test_gain_of_known_sets():
    # One finds the first of two objects in every image, the other both: AP 51/101 and 1 whatever the sample.
    truth = [objects(FIRST, SECOND)] * 8
    one = CocoMatches(truth, [found((0.9, FIRST))] * 8, 1)
    other = CocoMatches(truth, [found((0.9, FIRST), (0.8, SECOND))] * 8, 1)
    gain = relative_gain(one, other, seed=0, samples=50)
    assert gain.relative == pytest.approx((50 / 51,) * 3)
    assert gain.difference == pytest.approx((50 / 101,) * 3)
    back = relative_gain(other, one, seed=0, samples=50)
    assert back.relative == pytest.approx((-50 / 101,) * 3)
    assert relative_gain(one, one, seed=0, samples=50) == ((0, 0, 0), (0, 0, 0))


def test_a_paired_interval_is_narrower_than_apart():
    truth, detections = made(3, images=60, classes=3, noise=6)
    best = CocoMatches(truth, detections, 3)
    fewer = [each if image % 3 else found() for image, each in enumerate(detections)]
    worse = CocoMatches(truth, fewer, 3)
    gain, alone = relative_gain(worse, best, seed=1, samples=200), interval(best, seed=1, samples=200)
    assert gain.difference.estimate == best.scores().ap - worse.scores().ap > 0
    assert 0 < gain.difference.low < gain.difference.estimate < gain.difference.high
    assert gain.relative is not None
    assert gain.relative.estimate == pytest.approx(gain.difference.estimate / worse.scores().ap)
    assert gain.difference.high - gain.difference.low < alone.high - alone.low


def test_a_gain_over_nothing_is_not_relative():
    truth = [objects(FIRST)] * 3
    gain = relative_gain(CocoMatches(truth, [found()] * 3, 1), CocoMatches(truth, [found((0.9, FIRST))] * 3, 1), seed=0)
    assert gain.relative is None and gain.difference == (1, 1, 1)
    # Samples in which the one finds nothing gain infinitely.
    one = CocoMatches(truth, [found((0.9, FIRST)), found(), found()], 1)
    gain = relative_gain(one, CocoMatches(truth, [found((0.9, FIRST))] * 3, 1), seed=0)
    assert gain.relative is not None and gain.relative.high == np.inf and gain.relative.low == 0


def test_an_interval_is_decided_by_its_seed_and_that_of_literal_samples():
    truth, detections = made(7, images=30, classes=2)
    matches = CocoMatches(truth, detections, 2)
    drawn = interval(matches, seed=2, samples=100)
    assert drawn == interval(matches, seed=2, samples=100) != interval(matches, seed=3, samples=100)
    rng = np.random.default_rng(9)
    literal = []
    for _ in range(25):
        at = np.sort(rng.integers(30, size=30))
        literal.append(official([truth[i] for i in at], [detections[i] for i in at], 2).stats[0])
    assert drawn.estimate == matches.scores().ap
    expected = 2 * drawn.estimate - np.quantile(literal, [0.975, 0.025])
    assert (drawn.low, drawn.high) == pytest.approx(tuple(expected), abs=0.05)


def test_an_interval_of_lopsided_samples_is_their_mirror_image():
    # Ten images, of which one has a wrong detection above all others: AP is 10 / (10 + k) where a sample has it k times.
    truth = [objects(FIRST)] * 10
    matches = CocoMatches(truth, [found((0.9, SECOND), (0.5, FIRST)), *[found((0.5, FIRST))] * 9], 1)
    # k is binomial: 0 in 35 % of samples, at most 2 in 93 %, at most 3 in 99 %.
    estimate, least, greatest = 10 / 11, 10 / 13, 1
    assert interval(matches, seed=1) == pytest.approx((estimate, 2 * estimate - greatest, 2 * estimate - least))


def test_intervals_of_a_gain_cover_that_of_all_images():
    truth, detections = made(11, images=602, classes=3)
    fewer = [Detections(*(column[: len(column) * 2 // 3] for column in each)) for each in detections]
    one, other = (CocoMatches(truth, each, 3).scores().ap50 for each in (fewer, detections))
    covered = []
    for start in range(2, 602, 30):
        part = slice(start, start + 30)
        pair = (CocoMatches(truth[part], each[part], 3) for each in (fewer, detections))
        gain = relative_gain(*pair, seed=start, samples=60, iou=0.5).relative
        covered.append(gain.low <= (other - one) / one <= gain.high)
    assert sum(covered) >= 16  # of 20; other made sets have 17 to 20, and 95 % are 19


def test_refusals():
    with pytest.raises(PipelineError, match="object"):
        interval(CocoMatches([objects()], [found((0.9, FIRST))], 2), seed=0)
    matches = CocoMatches([objects(FIRST)] * 2, [found()] * 2, 1)
    with pytest.raises(ValueError, match="same images"):
        relative_gain(matches, CocoMatches([objects(FIRST)], [found()], 1), seed=0)
