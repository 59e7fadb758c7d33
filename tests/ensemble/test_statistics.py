from __future__ import annotations

import torch
from torch import nn

from pipeline.ensemble.forward import average_statistics


def test_every_batch_counts_the_same() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, momentum=0.3))
    nn.init.ones_(net[0].weight), nn.init.zeros_(net[0].bias)
    batches = [torch.tensor([0.0, 2.0]).view(2, 1, 1, 1), torch.tensor([10.0, 18.0]).view(2, 1, 1, 1)]
    average_statistics(net, iter(batches))
    assert net[1].running_mean.item() == 7.5  # of 1 and 14
    assert net[1].running_var.item() == 17.0  # of 2 and 32, without bias
    assert not net.training and net[1].momentum == 0.3


def test_what_was_running_before_is_forgotten() -> None:
    batches = [torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    fresh, used = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    used(torch.full((2, 3, 4, 4), 100.0))
    for norm in (fresh, used):
        average_statistics(norm, batches)
    assert torch.equal(fresh.running_mean, used.running_mean) and torch.equal(fresh.running_var, used.running_var)
