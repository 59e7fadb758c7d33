"""`python -m pipeline.bench.rounding --data STORE [--depths N ...]`: what rounding does to a new net's gradient.

The gradient of one training batch at the initial weights, in float32, TF32 and bf16, against float64: the cosine between
the two. Without shortcuts small differences grow from layer to layer, in the activations and in what comes back.
"""

from __future__ import annotations

import argparse
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

from pipeline.atomic import write_json
from pipeline.bench.configs import paper_config
from pipeline.data.store import Store, open_store
from pipeline.learn.input.module import ImageData
from pipeline.learn.models import build_model

ARITHMETIC = ("fp32", "tf32", "bf16")
TF32_DROPPED = 13  # of float32's 23 bits after the point


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 measured, 2 a store or a depth that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.bench.rounding", description="Gradients after rounding.")
    parser.add_argument("--data", type=Path, metavar="STORE", required=True, help="a store that preprocess made")
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 32, 44, 56], help="of the CIFAR family (6n + 2)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--out", type=Path, metavar="FILE", default=Path("metrics/rounding.json"))
    options = parser.parse_args(argv)
    try:
        store = open_store(options.data)
        found = []
        for depth in options.depths:
            for residual in (False, True):
                found.append(measured(store, depth, residual, options.batch))
                row = found[-1]
                print(row["net"], *(f"{name} {row[name]:.3f}" for name in ARITHMETIC), flush=True)
    except (ValueError, FileNotFoundError) as error:
        print(f"rounding: {error}", file=sys.stderr)
        return 2
    write_json(options.out, found)
    print(f"cosines with the gradient in float64 ({options.out})")
    return 0


def measured(store: Store, depth: int, residual: bool, batch: int = 128) -> dict[str, Any]:
    """Cosine of the whole gradient with that in float64, by arithmetic; 1 is the same direction, 0 none in common."""
    recipe = paper_config(store, Path()).recipe
    data = ImageData(store.path, "holdout", batch, recipe.augment, recipe.normalize, 0)
    data.setup("fit")
    images, labels = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    torch.manual_seed(0)
    classes, channels = len(store.manifest.classes), images.shape[1]
    net = build_model("cifar", depth, residual=residual, num_classes=classes, in_channels=channels)
    exact = gradient(net, images, labels, "fp64")
    found = {how: float(F.cosine_similarity(gradient(net, images, labels, how), exact, dim=0)) for how in ARITHMETIC}
    return {"net": f"{'ResNet' if residual else 'plain'}-{depth}", **found}


def gradient(net: nn.Module, images: Tensor, labels: Tensor, arithmetic: str) -> Tensor:
    """(P,) float64: all weights' gradients of the mean loss, one after the other; `net` stays as it was."""
    net = deepcopy(net).train()
    if arithmetic == "fp64":
        net, images = net.double(), images.double()
    if arithmetic == "tf32":
        for conv in [module for module in net.modules() if isinstance(module, nn.Conv2d)]:
            conv.forward = _RoundedConv(conv)  # type: ignore[assignment, method-assign]
    with torch.autocast("cpu", torch.bfloat16, enabled=arithmetic == "bf16"):
        loss = F.cross_entropy(net(images).to(torch.float64), labels)
    loss.backward()
    return torch.cat([weight.grad.flatten().double() for weight in net.parameters() if weight.grad is not None])


class _RoundedConv:
    """A convolution whose factors are rounded to TF32's ten bits, forward and backward, as a GPU's tensor cores do."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.weight, self.stride, self.padding = conv.weight, conv.stride, conv.padding

    def __call__(self, images: Tensor) -> Tensor:
        return _Product.apply(images, self.weight, self.stride, self.padding)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: Any, padding: Any) -> Tensor:
        images, weight = tf32(images), tf32(weight)
        ctx.save_for_backward(images, weight)
        ctx.geometry = stride, padding
        return F.conv2d(images, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        images, weight = ctx.saved_tensors
        grad = tf32(grad)
        to_images = conv2d_input(images.shape, weight, grad, *ctx.geometry)
        return to_images, conv2d_weight(images, weight.shape, grad, *ctx.geometry), None, None


def tf32(values: Tensor) -> Tensor:
    """float32 values rounded to ten bits after the point, halves away from zero."""
    half = 1 << (TF32_DROPPED - 1)
    bits = (values.contiguous().view(torch.int32) + half) & ~((1 << TF32_DROPPED) - 1)
    return bits.view(torch.float32)


if __name__ == "__main__":
    raise SystemExit(main())
