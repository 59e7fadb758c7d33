"""Batch norm's statistics, taken anew when training is over."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pipeline.learn.training.precision import float32_products


@torch.no_grad()
def average_statistics(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Gives each batch norm of `net` the plain mean of its batches' statistics, and leaves the net in evaluation mode.

    While training, they are running averages that weigh the last few batches most. The authors' released nets have
    "the averages" over a large training batch instead (README of KaimingHe/deep-residual-networks).

    Args:
        batches: (B, C, H, W) float32, normalised training images; at least one.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's way to say: every batch counts the same
    net.train()
    with float32_products("fp32"):
        for images in batches:
            net(images)
    net.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
