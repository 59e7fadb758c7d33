from __future__ import annotations

import pytest
import torch
from nets import make_model
from torch import nn

from pipeline.ensemble.forward import average_statistics, ready
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


def test_every_batch_weighs_the_same_in_averaged_statistics() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, momentum=0.3))
    nn.init.ones_(net[0].weight), nn.init.zeros_(net[0].bias)
    batches = [torch.tensor([0.0, 2.0]).view(2, 1, 1, 1), torch.tensor([10.0, 18.0]).view(2, 1, 1, 1)]
    average_statistics(net, iter(batches))
    assert net[1].running_mean.item() == 7.5  # of 1 and 14
    assert net[1].running_var.item() == 17.0  # of 2 and 32, without bias
    assert not net.training and net[1].momentum == 0.3


def test_earlier_statistics_are_forgotten() -> None:
    batches = [torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    fresh, used = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    used(torch.full((2, 3, 4, 4), 100.0))
    for norm in (fresh, used):
        average_statistics(norm, batches)
    assert torch.equal(fresh.running_mean, used.running_mean) and torch.equal(fresh.running_var, used.running_var)
