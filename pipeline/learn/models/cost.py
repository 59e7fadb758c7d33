"""Size and cost of a net, counted on the net itself: layers, parameters, multiply-adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learn.models.zoo import Net


@dataclass(frozen=True)
class Cost:
    layers: int  # weighted layers, the paper's "depth": convolutions and fc, without the shortcuts' projections
    params: int  # all learnt numbers, batch norm's scale and shift included
    macs: int  # multiply-adds of convolutions and fc for one image: the paper's "FLOPs (multiply-adds)", Table 1


# Only the convolutions need to run, for the sizes of their maps. The other layers would take most of the time on the
# meta device, whose kernels for them are Python; skipping batch norm also leaves its running statistics alone.
_STAND_INS: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.BatchNorm2d: lambda x: x,
    nn.AdaptiveAvgPool2d: lambda x: x[:, :, :1, :1],
    nn.Linear: lambda x: x,
}


def count_cost(model: nn.Module, image_shape: tuple[int, int, int]) -> Cost:
    """Cost of a net of this package for one image of (C, H, W), by one forward pass on the net's own device.

    The net stays as it was. On the meta device nothing is computed, so the deepest net takes a moment.
    """
    weighted = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    macs = sum(module.weight.numel() for module in weighted.values() if isinstance(module, nn.Linear))

    def add_macs(conv: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal macs
        # Each number of the output is a sum over one filter: C x k x k terms.
        assert isinstance(conv, nn.Conv2d)
        macs += output.numel() * conv.weight[0].numel()

    handles = [module.register_forward_hook(add_macs) for module in weighted.values() if isinstance(module, nn.Conv2d)]
    skipped = [module for module in model.modules() if type(module) in _STAND_INS]
    for module in skipped:
        module.forward = _STAND_INS[type(module)]
    try:
        with torch.no_grad():
            model(next(model.parameters()).new_zeros(1, *image_shape))
    finally:
        for module in skipped:
            del module.forward
        for handle in handles:
            handle.remove()
    layers = sum("downsample" not in name.split(".") for name in weighted)
    return Cost(layers=layers, params=sum(p.numel() for p in model.parameters()), macs=macs)


@cache
def net_cost(net: Net) -> Cost:
    """Cost of a net at the paper's image size and number of classes; allocates no weights."""
    with torch.device("meta"):
        return count_cost(net.build(), net.image_shape)
