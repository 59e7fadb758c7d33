from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import make_model
from torch import nn

from pipeline.ensemble.forward import COLDEST, HOTTEST, average, fitted_temperature, ready, tempered
from pipeline.learn.models import build_model

CPU = torch.device("cpu")


def trained(**net) -> nn.Module:
    """A net whose batch norms have statistics and parameters of their own."""
    torch.manual_seed(0)
    model = build_model(make_model(**net), 5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
            ):
                nn.init.uniform_(tensor, low, high)
    return model.eval()


@pytest.mark.parametrize(
    "net",
    [
        {"family": "cifar", "depth": 14},
        {"family": "cifar", "depth": 14, "residual": False},
        {"family": "cifar", "depth": 14, "shortcut": "B"},
        {"family": "imagenet", "depth": 18, "shortcut": "C"},
        {"family": "imagenet", "depth": 50},
    ],
    ids=str,
)
def test_a_ready_net_gives_the_same_answers_without_batch_norm(net):
    model, images = trained(**net), torch.randn(6, 3, 32, 32)
    with torch.inference_mode():
        before = model(images)
        after = ready(model, CPU)(images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    scale = before.abs().max()
    torch.testing.assert_close(after / scale, before / scale, atol=1e-5, rtol=0)
    assert ((before - before[0]).abs().max() / scale) > 1e-3  # images get different answers


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


def test_average_normalises_weights_and_rows_sum_to_one():
    a, b = np.eye(3, dtype=np.float32)[[0, 1]], np.eye(3, dtype=np.float32)[[1, 1]]
    mean = average([a, b], [3, 1])
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, [[0.75, 0.25, 0], [0, 1, 0]])
    np.testing.assert_array_equal(average([a, b], [0, 2]), b)


@pytest.mark.parametrize("weights", [[], [1], [1, -1], [0, 0]])
def test_average_refuses_impossible_weights(weights):
    with pytest.raises(ValueError, match="weight"):
        average([np.eye(3)] * 2, weights)
