"""What the layers of a trained net answer with, and what comes back to them (Fig. 7, Sec. 4.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.data.splits import evenly
from pipeline.ensemble.predictions import Images, load_net
from pipeline.learn.input.loader import EvalLoader
from pipeline.learn.training.precision import float32_products
from pipeline.progress import progress

IMAGES = 500  # evenly spaced, so of every class
BATCH = 50  # a backward pass keeps every layer's maps


@dataclass(frozen=True)
class Responses:
    """A number a 3x3 convolution, from the input on."""

    std: list[float]  # of all that the layer's batch norm gives, over images, channels and positions
    gradient: list[float]  # Euclidean norm of the loss's gradient in the same place, an image; mean over images


def responses(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Responses:
    """Responses "after BN and before other nonlinearity (ReLU/addition)", and gradients "with healthy norms".

    Args:
        net: with a batch norm after each 3x3 convolution, in evaluation mode. It is left as it was.
        batches: (B, C, H, W) float32 normalised images and (B,) int64 labels; at least one.
    Raises:
        ValueError: no such layer.
    """
    layers = list(_norms_after_3x3(net))
    if not layers:
        raise ValueError("no 3x3 convolution with batch norm behind it; layer responses are defined after batch norm")
    device = next(net.parameters()).device
    # A row a layer: sum, sum of squares, count, sum of gradients' norms.
    sums, images = torch.zeros(len(layers), 4, dtype=torch.float64, device=device), 0
    with float32_products("fp32"), _measuring(layers, sums):
        for inputs, labels in batches:
            images += len(labels)
            F.cross_entropy(net(inputs).float(), labels, reduction="sum").backward()
            net.zero_grad()
    mean = sums[:, 0] / sums[:, 2]
    std = (sums[:, 1] / sums[:, 2] - mean.square()).clamp(min=0).sqrt()
    return Responses(std.tolist(), (sums[:, 3] / images).tolist())


def responses_of(weights: Path, images: Images, device: torch.device, workers: int) -> Responses | None:
    """Responses of a trained net to some of `images`, in its single view; None for a net that has no such layers.

    Raises:
        ValueError: as `load_net`.
    """
    net, record = load_net(weights, images.store.manifest.content_hash)
    net = net.to(memory_format=torch.channels_last).to(device)
    if not list(_norms_after_3x3(net)):
        return None
    some = replace(images, indices=evenly(images.indices, IMAGES))
    batches = some.batches(record, workers)
    title = f"layer responses, {record.name} {record.key}"

    def served() -> Iterator[tuple[Tensor, Tensor]]:
        for fetched in EvalLoader(some.indices, BATCH, batches.fetch, ahead=batches.ahead):
            inputs, labels = batches.finish(tuple(part.to(device) for part in fetched))
            yield inputs, labels
            shown.advance(len(labels))

    with progress(title, len(some.indices), "images") as shown:
        return responses(net, served())


def _norms_after_3x3(net: nn.Module) -> Iterator[nn.BatchNorm2d]:
    for parent in net.modules():
        for conv, norm in pairwise(parent.children()):
            if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3) and isinstance(norm, nn.BatchNorm2d):
                yield norm


@contextmanager
def _measuring(layers: list[nn.BatchNorm2d], sums: Tensor) -> Iterator[None]:
    def watched(layer: int) -> object:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            variance, mean = torch.var_mean(output.detach(), correction=0)
            count, mean = output.numel(), mean.double()
            sums[layer, 0] += count * mean
            sums[layer, 1] += count * (variance.double() + mean.square())
            sums[layer, 2] += count

            def back(gradient: Tensor) -> None:
                sums[layer, 3] += gradient.detach().flatten(1).norm(dim=1).double().sum()

            output.register_hook(back)  # of the value before a ReLU in place

        return hook

    handles = [norm.register_forward_hook(watched(at)) for at, norm in enumerate(layers)]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
