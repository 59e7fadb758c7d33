"""Size and cost of a net, counted on the net itself: layers, parameters, multiply-adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn

from pipeline.learn.models.zoo import Net


@dataclass(frozen=True)
class Cost:
    layers: int  # weighted layers, the paper's "depth": convolutions and fc, without the shortcuts' projections
    params: int  # all learnt numbers, batch norm's scale and shift included
    macs: int  # multiply-adds of convolutions and fc for one image: the paper's "FLOPs (multiply-adds)", Table 1


# Only the sizes of maps are needed, for which no layer has to compute; skipping batch norm also leaves its running statistics
# alone.
_STAND_INS: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.BatchNorm2d: lambda x: x,
    nn.AdaptiveAvgPool2d: lambda x: x[:, :, :1, :1],
    nn.Linear: lambda x: x,
    nn.Dropout: lambda x: x,  # draws no random numbers
}


def count_cost(model: nn.Module, image_shape: tuple[int, int, int]) -> Cost:
    """Cost of a net of this package for one image of (C, H, W), by one forward pass of maps of zeros.

    The net stays as it was, and may be on the meta device. The maps are on the CPU, since kernels of the meta device import SymPy,
    which takes half a second of each training.
    """
    weighted = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    macs = sum(module.weight.numel() for module in weighted.values() if isinstance(module, nn.Linear))

    def counted(conv: nn.Conv2d, x: Tensor) -> Tensor:
        nonlocal macs
        output = x.new_zeros(len(x), conv.out_channels, *_map_size(conv, x))
        # Each number of the output is a sum over one filter: C x k x k terms.
        macs += output.numel() * conv.weight[0].numel()
        return output

    replaced = [module for module in model.modules() if isinstance(module, nn.Conv2d) or type(module) in _STAND_INS]
    for module in replaced:
        module.forward = partial(counted, module) if isinstance(module, nn.Conv2d) else _STAND_INS[type(module)]
    try:
        with torch.no_grad():
            model(torch.zeros(1, *image_shape, device="cpu"))
    finally:
        for module in replaced:
            del module.forward
    layers = sum("downsample" not in name.split(".") for name in weighted)
    return Cost(layers=layers, params=sum(p.numel() for p in model.parameters()), macs=macs)


def _map_size(conv: nn.Conv2d, x: Tensor) -> list[int]:
    """Height and width of the convolution's output, in pixels."""
    assert not isinstance(conv.padding, str)
    sizes = zip(x.shape[2:], conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True)
    return [
        (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for side, kernel, stride, padding, dilation in sizes
    ]


@cache
def net_cost(net: Net) -> Cost:
    """Cost of a net at the paper's image size and number of classes; allocates no weights."""
    with torch.device("meta"):
        return count_cost(net.build(), net.image_shape)
