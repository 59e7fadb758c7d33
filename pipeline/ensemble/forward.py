"""The forward pass that predictions and the served model share, and the re-estimation of batch norm's statistics."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.learn.training.precision import float32_products


def ready(net: nn.Module, device: torch.device) -> nn.Module:
    """`net` on `device` in its fastest form, which computes the same function within float32's rounding.

    In evaluation mode batch norm is an affine map with constant coefficients, so each one is fused into the convolution
    before it. That saves a pass over memory, a quarter of the time on a CPU. bfloat16 would halve the rest, but it changes
    the predicted class of 1 image in 400.

    Args:
        net: of this project, in evaluation mode.
    """
    for parent in list(net.modules()):
        for (before, conv), (after, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, before, fuse_conv_bn_eval(conv, norm))
                setattr(parent, after, nn.Identity())
    return net.to(memory_format=torch.channels_last).to(device)


@torch.inference_mode()
def class_probabilities(net: nn.Module, images: Tensor) -> Tensor:
    """(B, K) float32 probabilities of (B, C, H, W) float32 images, already normalised.

    Convolutions multiply in float32 on a GPU too, not in TF32, so that machines agree within rounding.
    """
    with float32_products("fp32"):
        return net(images).float().softmax(1)


@torch.no_grad()
def average_statistics(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Sets each batch norm's statistics to their plain mean over `batches`; leaves `net` in evaluation mode.

    Training keeps running averages, in which the last few batches weigh most. The authors' released nets have "the
    averages" over a large training batch instead (README of KaimingHe/deep-residual-networks).

    Args:
        batches: (B, C, H, W) float32, normalised training images; at least one.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # in torch: every batch weighs the same
    net.train()
    with float32_products("fp32"):
        for images in batches:
            net(images)
    net.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
