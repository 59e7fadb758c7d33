from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.calibration import BINS, calibration
from pipeline.evaluation.intervals import wilson


def sure(confidence: float, right: int, wrong: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of three classes, the first the most probable, and labels of that many right and wrong answers."""
    rest = (1 - confidence) / 2
    labels = np.array([0] * right + [1] * wrong)
    return np.tile(np.float32([confidence, rest, rest]), (right + wrong, 1)), labels


def together(*parts: tuple[np.ndarray, np.ndarray]) -> dict:
    return calibration(np.concatenate([p for p, _ in parts]), np.concatenate([labels for _, labels in parts]))


def test_a_bin_holds_the_accuracy_among_images_of_its_confidence():
    told = together(sure(0.95, 8, 2), sure(0.45, 9, 21))
    low, high = told["bins"]
    assert (low["count"], low["accuracy"], high["count"], high["accuracy"]) == (30, 0.3, 10, 0.8)
    assert (low["confidence"], high["confidence"]) == (pytest.approx(0.45), pytest.approx(0.95))
    assert high["ci95"] == pytest.approx([1 - end for end in reversed(wilson(2, 10))])
    assert told["expected_error"] == pytest.approx((30 * 0.15 + 10 * 0.15) / 40)
    assert told["confidence"] == pytest.approx((30 * 0.45 + 10 * 0.95) / 40)


def test_full_confidence_belongs_to_the_last_bin_and_a_perfect_net_has_no_error():
    told = together(sure(1.0, 5, 0))
    (only,) = told["bins"]
    assert only["confidence"] == only["accuracy"] == 1.0 and told["expected_error"] == 0.0
    rng = np.random.default_rng(0)
    random = rng.dirichlet(np.ones(4), 500).astype(np.float32)
    bins = calibration(random, rng.integers(0, 4, 500))["bins"]
    assert sum(one["count"] for one in bins) == 500 and len(bins) <= BINS


def test_probabilities_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="diverged"):
        calibration(np.full((1, 2), np.nan), np.array([0]))
