from __future__ import annotations

import numpy as np
import pytest

from pipeline.ensemble.averaging import COLDEST, HOTTEST, fitted_temperature, tempered


def softmax(logits):
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return (raised / raised.sum(1, keepdims=True)).astype(np.float32)


def drawn(count=20_000, sharper=1.0):
    """Probabilities of a net, and labels drawn from what they would be at logits `sharper` times smaller."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (count, 5))
    truth = softmax(logits / sharper)
    labels = (truth.cumsum(1) > rng.random((count, 1))).argmax(1)
    return softmax(logits), labels


@pytest.mark.parametrize("sharper", [0.5, 1.0, 3.0])
def test_the_temperature_found_is_the_one_that_was_hidden(sharper):
    assert fitted_temperature(*drawn(sharper=sharper)) == pytest.approx(sharper, rel=0.03)


def test_it_is_the_lowest_cross_entropy_on_the_labels():
    said, labels = drawn(500, sharper=1.7)
    found = fitted_temperature(said, labels)

    def surprise(temperature):
        return -np.log(tempered(said, temperature)[np.arange(500), labels]).mean()

    assert surprise(found) <= min(surprise(found * 0.98), surprise(found * 1.02))


def test_a_temperature_changes_no_order_and_one_changes_nothing():
    said, _ = drawn(100)
    assert tempered(said, 1.0) is said
    for temperature in (0.5, 4.0):
        found = tempered(said, temperature)
        assert np.array_equal(found.argsort(1), said.argsort(1)) and found.dtype == np.float32
        np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    assert tempered(said, 4.0).max() < said.max()


def test_a_net_that_is_never_wrong_or_always_wrong_stays_within_bounds():
    sure, labels = np.eye(3, dtype=np.float32), np.arange(3)
    assert fitted_temperature(np.full((3, 3), 0.2, np.float32) + 0.4 * sure, labels) == pytest.approx(COLDEST)
    assert fitted_temperature(sure, np.roll(labels, 1)) == pytest.approx(HOTTEST)
