from __future__ import annotations

import numpy as np
import pytest

from pipeline.ensemble.averaging import COLDEST, HOTTEST, fitted_temperature, tempered


def softmax(logits):
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return (exponentials / exponentials.sum(1, keepdims=True)).astype(np.float32)


def drawn(count=20_000, sharper=1.0):
    """Probabilities, and labels drawn from the same logits divided by `sharper`."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (count, 5))
    truth = softmax(logits / sharper)
    labels = (truth.cumsum(1) > rng.random((count, 1))).argmax(1)
    return softmax(logits), labels


@pytest.mark.parametrize("sharper", [0.5, 1.0, 3.0])
def test_the_temperature_of_overconfident_probabilities_is_recovered(sharper):
    assert fitted_temperature(*drawn(sharper=sharper)) == pytest.approx(sharper, rel=0.03)


def test_the_temperature_has_the_lowest_cross_entropy_on_the_labels():
    probabilities, labels = drawn(500, sharper=1.7)
    fitted = fitted_temperature(probabilities, labels)

    def cross_entropy(temperature):
        return -np.log(tempered(probabilities, temperature)[np.arange(500), labels]).mean()

    assert cross_entropy(fitted) <= min(cross_entropy(fitted * 0.98), cross_entropy(fitted * 1.02))


def test_a_temperature_changes_no_order_and_one_changes_nothing():
    probabilities, _ = drawn(100)
    assert tempered(probabilities, 1.0) is probabilities
    for temperature in (0.5, 4.0):
        scaled = tempered(probabilities, temperature)
        assert np.array_equal(scaled.argsort(1), probabilities.argsort(1)) and scaled.dtype == np.float32
        np.testing.assert_allclose(scaled.sum(1), 1, rtol=1e-6)
    assert tempered(probabilities, 4.0).max() < probabilities.max()


def test_a_net_that_is_never_wrong_or_always_wrong_stays_within_bounds():
    sure, labels = np.eye(3, dtype=np.float32), np.arange(3)
    assert fitted_temperature(np.full((3, 3), 0.2, np.float32) + 0.4 * sure, labels) == pytest.approx(COLDEST)
    assert fitted_temperature(sure, np.roll(labels, 1)) == pytest.approx(HOTTEST)
