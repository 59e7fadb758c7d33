"""The forward pass that predictions and the served model share; needs torch alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.inference_mode()
def class_probabilities(net: nn.Module, images: Tensor) -> Tensor:
    """(B, K) float32 probabilities of (B, C, H, W) float32 images, already normalised.

    Convolutions multiply in float32 on a GPU too, not in TF32, so that machines agree to rounding.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return net(images).float().softmax(1)
