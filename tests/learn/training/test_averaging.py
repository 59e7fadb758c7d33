"""The average of the weights over steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.learn.training.averaging import average_of, follow


def test_weights_and_statistics_are_averaged_and_counters_copied() -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    average = average_of(net)
    expected = net[0].weight.item()
    for step, decay in ((0, 0.1), (1, 2 / 11), (1000, 0.9)):  # the least of 0.9 and (1 + step) / (10 + step)
        with torch.no_grad():
            net[0].weight.fill_(step + 5.0)
            net[1].running_mean.fill_(step + 5.0)
            net[1].num_batches_tracked.add_(1)
        follow(average, net, 0.9, step)
        expected = decay * expected + (1 - decay) * (step + 5.0)
        assert average[0].weight.item() == pytest.approx(expected, rel=1e-5)
    assert average[1].running_mean.item() == pytest.approx(0.9 * (2 / 11 * 4.5 + 9 / 11 * 6) + 100.5, rel=1e-5)
    assert average[1].num_batches_tracked.item() == 3
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
