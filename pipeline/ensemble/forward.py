"""From images to an ensemble's probabilities: one net's forward pass, its calibration, the average of several nets.

The served model shares this module with evaluation. M nets, N images, K classes. Temperature scaling: Guo et al. 2017,
"On Calibration of Modern Neural Networks", arXiv 1706.04599.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.config.model import ModelConfig
from pipeline.errors import PipelineError
from pipeline.learn.models import build_model
from pipeline.learn.training.precision import float32_products

Probabilities = NDArray[np.floating]  # (N, K), rows sum to 1

COLDEST, HOTTEST = 0.05, 20.0
HALVINGS = 30  # of the range's logarithm: down to the last digit of a float32


def trained(model: ModelConfig, num_classes: int, in_channels: int, state: Mapping[str, Tensor]) -> nn.Module:
    """The net with these weights, in evaluation mode.

    Raises:
        RuntimeError: weights of another net.
    """
    with torch.device("meta"):  # no memory, no random numbers: the weights are given
        net = build_model(model, num_classes, in_channels)
    net.load_state_dict(state, assign=True)
    return net.eval()


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


def fitted_temperature(probabilities: Probabilities, labels: NDArray[np.integer]) -> float:
    """The temperature with the lowest cross-entropy on the labels, between COLDEST and HOTTEST.

    Args:
        probabilities: (N, K), rows sum to 1.
        labels: (N,) true classes.
    """
    logs = _logs(probabilities)
    true_logs = logs[np.arange(len(labels)), labels].mean()
    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    for _ in range(HALVINGS):  # cross-entropy is convex in 1 / temperature
        middle = (low + high) / 2
        expected = (_softmax(np.exp(middle) * logs) * logs).sum(1).mean()
        low, high = (low, middle) if expected > true_logs else (middle, high)
    return float(np.exp(-(low + high) / 2))


def tempered(probabilities: Probabilities, temperature: float) -> Probabilities:
    """(N, K) probabilities with the logits divided by `temperature`: a temperature above 1 makes them less confident.

    The order of the classes stays, and with it the net's own errors.
    """
    if temperature == 1.0:
        return probabilities
    return _softmax(_logs(probabilities) / temperature).astype(np.float32)


def _logs(probabilities: Probabilities) -> NDArray[np.float64]:
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny), dtype=np.float64)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def average(probabilities: Sequence[Probabilities], weights: Sequence[float]) -> NDArray[np.float32]:
    """(N, K) weighted mean of members' probabilities, taken after the softmax in float64.

    Args:
        weights: (M,) not negative; normalised here.
    Raises:
        PipelineError: no member, a negative weight, all weights 0, or not as many weights as members.
    """
    if len(probabilities) != len(weights) or min(weights, default=-1.0) < 0 or not sum(weights):
        raise PipelineError(
            f"{len(probabilities)} members with weights {list(weights)}; need one weight a member, none negative, not all 0"
        )
    return np.average(probabilities, axis=0, weights=np.array(weights, dtype=np.float64)).astype(np.float32)


def running_averages(probabilities: Iterable[Probabilities], weights: Iterable[float]) -> Iterator[NDArray[np.float32]]:
    """(N, K) weighted mean of the first member, of the first two, and so on, summed in float64.

    Args:
        weights: (M,) not negative, the first above 0.
    """
    total: Any = 0.0
    weight_sum = 0.0
    for values, weight in zip(probabilities, weights, strict=True):
        total += values * np.float64(weight)
        weight_sum += weight
        yield (total / weight_sum).astype(np.float32)
