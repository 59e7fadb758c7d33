"""Whether a GPU computes what the CPU does: loss, gradients, augmentation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.synthetic import changed, paper_config
from pipeline.config import Config
from pipeline.data.store import Store
from pipeline.learn.input.batches import batches_of
from pipeline.learn.models import build_model
from pipeline.learn.training.classifier import Classifier
from pipeline.learn.training.precision import float32_products

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Limits:
    """How far a loss and all gradients may be from the CPU's, relative to them."""

    loss: float
    gradient: float

    def __ge__(self, apart: tuple[float, float]) -> bool:
        return apart[0] <= self.loss and apart[1] <= self.gradient  # which NaN is not


# A gradient jumps where the input of a ReLU changes sign, and rounding decides that for the inputs nearest to zero. So
# float32 gradients of a deep net agree to percents only, between memory formats of a CPU too, while losses agree closely.
# In float64 no sign is in doubt, so that both devices must compute the same function; logits are rounded to float32 for
# the loss. The float32 limits lie between the effect of two orders of summation on a CPU (losses 3e-7, gradients 2e-3 for
# ResNet-20; 4e-6 and 3e-2 for ResNet-50) and that of TF32's 10 bits (3e-5 and 4e-2; 3e-3 and 6e-1). TF32 and bf16 are
# compared with the CPU's float32, at about three times their own effect.
NETS = {
    "ResNet-20": ({"depth": 20}, 32, 128),
    "ResNet-50": ({"family": "imagenet", "depth": 50, "shortcut": "B"}, 96, 8),
}
LIMITS = {
    ("ResNet-20", "fp64"): Limits(1e-6, 1e-6),
    ("ResNet-20", "fp32"): Limits(5e-6, 1e-2),
    ("ResNet-20", "tf32"): Limits(1e-3, 0.12),
    ("ResNet-20", "bf16"): Limits(1e-2, 0.3),
    ("ResNet-50", "fp64"): Limits(1e-6, 1e-6),
    ("ResNet-50", "fp32"): Limits(5e-5, 0.15),
}


def configured(store: Store, net: str) -> Config:
    model, side, batch = NETS[net]
    config = paper_config(store, Path("/none"))
    augment = replace(config.recipe.augment, crop=side, test_side=side)
    return changed(config, data={"image_size": side}, model=model, recipe={"batch_size": batch, "augment": augment})


def training_step(config: Config, device: torch.device, precision: str) -> tuple[float, list[Tensor]]:
    """Loss of one step of `Classifier`, and its gradients as float64 on the CPU: the same weights and batch each time."""
    torch.manual_seed(0)
    classes = 10 if config.model.family == "cifar" else 1000
    net = build_model(config.model, classes).to(memory_format=torch.channels_last)
    side = config.recipe.augment.crop
    images = torch.randn(config.recipe.batch_size, 3, side, side).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(classes, (config.recipe.batch_size,))
    dtype = torch.float64 if precision == "fp64" else torch.float32
    classifier = Classifier(net, config.recipe).to(device, dtype)
    with float32_products(precision):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss, _ = classifier.loss(images.to(device, dtype), labels.to(device))
        loss.backward()
    return loss.item(), [p.grad.cpu().double() for p in net.parameters() if p.grad is not None]


def apart(step: tuple[float, list[Tensor]], reference: tuple[float, list[Tensor]]) -> tuple[float, float]:
    """Relative differences of the loss, and of all gradients as one vector."""
    (loss, gradients), (other_loss, others) = step, reference
    difference = torch.stack([(one - other).norm() for one, other in zip(gradients, others, strict=True)]).norm()
    return abs(loss - other_loss) / abs(other_loss), float(difference / torch.stack([g.norm() for g in others]).norm())


@pytest.mark.gpu
@pytest.mark.parametrize(("net", "precision"), LIMITS)
def test_a_step_computes_what_the_cpu_computes(net: str, precision: str, store: Store, device: torch.device) -> None:
    config = configured(store, net)
    reference = training_step(config, CPU, "fp64" if precision == "fp64" else "fp32")
    difference = apart(training_step(config, device, precision), reference)
    assert LIMITS[net, precision] >= difference, difference


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16"])
def test_the_cpu_keeps_to_the_limits_and_a_gradient_that_is_off_does_not(precision: str, store: Store) -> None:
    config = changed(configured(store, "ResNet-20"), recipe={"batch_size": 32})
    reference = training_step(config, CPU, "fp64" if precision == "fp64" else "fp32")
    loss, gradients = training_step(config, CPU, precision)
    limits = LIMITS["ResNet-20", precision]
    assert limits >= apart((loss, gradients), reference)
    assert not limits >= apart((loss, [g * (1 + 1.5 * limits.gradient) for g in gradients]), reference)
    assert not limits >= apart((float("nan"), gradients), reference)


@pytest.mark.gpu
@pytest.mark.parametrize("train", [True, False])
def test_augmentation_is_the_cpus_bit_for_bit(train: bool, store: Store, device: torch.device) -> None:
    recipe = configured(store, "ResNet-20").recipe
    indices = store.split_indices("full")[0][:2_000]
    draws = np.random.default_rng(0).random((len(indices), 3), dtype=np.float32) if train else None
    images = []
    for where in (CPU, device):
        batches = batches_of(store.train(), store.statistics("full"), recipe.augment, recipe.normalize, 1)
        rows, drawn = batches.fetch(indices, draws)
        images.append(batches.finish((rows.to(where), drawn.to(where)))[0].cpu())
    assert torch.equal(*images)
