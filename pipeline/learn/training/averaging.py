"""An average of the weights over the steps of a training, which is validated and saved in their place.

Weights that move about a minimum are closer to it in the mean (Polyak and Juditsky 1992). The average is exponential, as in
Szegedy et al. 2015 (arXiv 1512.00567, Sec. 8).
"""

from __future__ import annotations

from copy import deepcopy

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def average_of(net: nn.Module) -> nn.Module:
    """A copy of `net` that no optimiser moves."""
    return deepcopy(net).requires_grad_(False)


def follow(average: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Takes the weights after a step, and batch norm's statistics, into the average.

    Args:
        decay: how much of the average stays; less in the first steps, so that the random first weights are soon forgotten.
        step: the step that was made, counted from 0.
    """
    buffers = list(zip(average.buffers(), net.buffers(), strict=True))
    for own, new in buffers:
        if not own.is_floating_point():  # batch norm's counter
            own.copy_(new)
    floating = [pair for pair in buffers if pair[0].is_floating_point()]
    pairs = [*zip(average.parameters(), net.parameters(), strict=True), *floating]
    owns, news = ([pair[n].detach() for pair in pairs] for n in (0, 1))
    get_ema_multi_avg_fn(min(decay, (1 + step) / (10 + step)))(owns, news, None)
