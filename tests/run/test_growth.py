"""Growth of convolutions' weights, a metric of each validation."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import torch
from runs import EPOCH, composed, metrics, run_folder

from pipeline.learn.models import build_model
from pipeline.run.growth import Growth
from pipeline.run.weights import load_weights


def test_growth_is_the_norm_over_the_norm_of_the_first_weights(reference: Path) -> None:
    median, first = (metrics(reference, f"weights/growth_{name}") for name in ("median", "first"))
    assert list(median) == list(first) == [EPOCH, 2 * EPOCH, 50]
    weights, net = load_weights(run_folder(reference) / "best.safetensors")
    torch.manual_seed(composed(reference).seed)
    drawn = build_model(net.model, net.num_classes, net.in_channels).named_parameters()
    growth = [float(weights[name].norm() / start.norm()) for name, start in drawn if start.dim() == 4]
    assert len(growth) == 7 and max(growth) > 1.001
    assert median[net.step] == pytest.approx(statistics.median(growth))
    assert first[net.step] == pytest.approx(growth[0])


def test_only_convolutions_count_and_their_first_weights_are_kept() -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Conv2d(2, 2, 3), torch.nn.Linear(2, 2)
    )
    growth = Growth(net)
    with torch.no_grad():
        for parameter in net[1:].parameters():
            parameter.mul_(3)
    assert growth.metrics(net) == pytest.approx({"weights/growth_median": 2.0, "weights/growth_first": 1.0})
    linear = torch.nn.Linear(2, 2)
    assert Growth(linear).metrics(linear) == {}
