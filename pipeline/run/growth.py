"""How far the weights of convolutions have grown, as metrics.

With batch norm, the norm of a convolution's weights sets its effective learning rate: twice the norm, a quarter of the rate
(docs/why-56-layers-start-slowly.md).
"""

from __future__ import annotations

import statistics

import torch
from torch import nn


class Growth:
    """Norms of a net's convolutions over their norms in `first`, the net with its first weights.

    A resumed training draws or loads the same first weights again before it reads its checkpoint, so no checkpoint holds
    their norms.
    """

    def __init__(self, first: nn.Module) -> None:
        self._first = _norms(first)

    def metrics(self, net: nn.Module) -> dict[str, float]:
        """weights/growth_median of all convolutions, weights/growth_first of the one that sees the image; {} without any."""
        growth = (_norms(net) / self._first).tolist()
        if not growth:
            return {}
        return {"weights/growth_median": statistics.median(growth), "weights/growth_first": growth[0]}


def _norms(net: nn.Module) -> torch.Tensor:
    """(L,) float32 on the CPU, in the order of the net's L convolutions."""
    norms = [module.weight.detach().norm() for module in net.modules() if isinstance(module, nn.Conv2d)]
    return torch.stack(norms).cpu() if norms else torch.empty(0)
