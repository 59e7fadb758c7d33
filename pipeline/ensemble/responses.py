"""Responses of a trained net's layers, and the gradients that reach them (Fig. 7, Sec. 4.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.data.splits import evenly
from pipeline.ensemble.predictions import Images, finished, net_of_store
from pipeline.errors import PipelineError
from pipeline.learn.input.loader import EvalLoader
from pipeline.learn.models import build_model
from pipeline.learn.training.precision import float32_products
from pipeline.record import Net

IMAGES = 500  # evenly spaced, so that every class has some
BATCH = 50  # a backward pass keeps every layer's feature maps


@dataclass(frozen=True)
class Responses:
    """One number for each 3x3 convolution, from the input on."""

    std: list[float]  # of the output of the layer's batch norm, over images, channels and positions
    gradient: list[float]  # Euclidean norm of the loss's gradient at the same place, mean over images


def responses(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Responses:
    """Responses "after BN and before other nonlinearity (ReLU/addition)", and gradients "with healthy norms".

    Args:
        net: in evaluation mode, with a batch norm after each 3x3 convolution. It does not change.
        batches: (B, C, H, W) float32 normalised images and (B,) int64 labels; at least one.
    Raises:
        PipelineError: no such layer.
    """
    layers = list(_norms_after_3x3(net))
    if not layers:
        raise PipelineError("no 3x3 convolution is followed by batch norm, after which layer responses are measured")
    outputs: dict[nn.Module, Tensor] = {}

    def keep(layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        outputs[layer] = output
        return output.clone()  # which an in-place ReLU may overwrite

    device = next(net.parameters()).device
    # One row a layer: sum, sum of squares, count, sum of the gradients' norms.
    sums, images = torch.zeros(len(layers), 4, dtype=torch.float64, device=device), 0
    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        for inputs, labels in batches:
            images += len(labels)
            with float32_products("fp32"):
                loss = F.cross_entropy(net(inputs).float(), labels, reduction="sum")
                kept = [outputs[layer] for layer in layers]
                gradients = torch.autograd.grad(loss, kept)
            sums += torch.stack([_moments(*pair) for pair in zip(kept, gradients, strict=True)])
    finally:
        for handle in handles:
            handle.remove()
    mean = sums[:, 0] / sums[:, 2]
    std = (sums[:, 1] / sums[:, 2] - mean.square()).clamp(min=0).sqrt()
    return Responses(std.tolist(), (sums[:, 3] / images).tolist())


def _moments(output: Tensor, gradient: Tensor) -> Tensor:
    """(4,) float64: a layer's row in `responses` for one batch."""
    variance, mean = (value.double() for value in torch.var_mean(output.detach(), correction=0))
    count, norms = output.numel(), gradient.flatten(1).norm(dim=1).double()
    return torch.stack([count * mean, count * (variance + mean.square()), count * torch.ones_like(mean), norms.sum()])


def responses_of(
    weights: Path, images: Images, device: torch.device, workers: int
) -> tuple[Responses, Responses | None] | None:
    """Responses of a trained net to some of `images`, in its single view, and those of its random first weights.

    None for a net without such layers; no first responses where the training did not start from the seed's weights.

    Raises:
        PipelineError: as `net_of_store`.
    """
    net, record = net_of_store(weights, images.store.manifest.content_hash)
    if not list(_norms_after_3x3(net)):
        return None
    batches, indices = images.batches(record, workers), evenly(images.indices, IMAGES)

    def measured(net: nn.Module, title: str) -> Responses:
        net = net.to(memory_format=torch.channels_last).to(device)
        loader = EvalLoader(indices, BATCH, batches.fetch, ahead=batches.ahead)
        return responses(net, finished(loader, batches, device, f"{title}, {record.name} {record.key}", len(indices)))

    first = None
    if record.seed is not None and not record.start:
        loader = EvalLoader(indices, IMAGES, batches.fetch, ahead=batches.ahead)
        inputs, _ = batches.finish(next(iter(loader)))
        first = measured(fresh_net(record, inputs), "layer responses at the start")
    return measured(net, "layer responses"), first


def fresh_net(record: Net, inputs: Tensor) -> nn.Module:
    """The net that a training began with, in evaluation mode, with the batch-norm statistics of `inputs` (B, C, H, W)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(record.seed or 0)
        net = build_model(record.model, record.num_classes, record.in_channels)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        net(inputs)
    return net.eval()


def _norms_after_3x3(net: nn.Module) -> Iterator[nn.BatchNorm2d]:
    for parent in net.modules():
        for conv, norm in pairwise(parent.children()):
            if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3) and isinstance(norm, nn.BatchNorm2d):
                yield norm
