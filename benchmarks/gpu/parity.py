"""Whether a GPU computes what the CPU does: loss, gradients, augmentation. B images, C channels, H x W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.configs import paper_config
from benchmarks.synthetic import synthetic_store
from pipeline.config import ModelConfig, RecipeConfig
from pipeline.data.store import Store
from pipeline.learn.input.batches import batches_of
from pipeline.learn.models import build_model, net_name
from pipeline.learn.training.classifier import Classifier
from pipeline.learn.training.precision import float32_products

# A gradient jumps where a ReLU's input changes sign, and rounding decides that for the few inputs nearest to zero. So
# float32 gradients of a deep net agree to percents only, between CPU memory formats too, while the loss agrees closely.
# Two limits are drawn therefore. In float64 no sign is in doubt, and both devices must compute one and the same function.
# In float32 each case has a limit between what two orders of summation differ by on a CPU, and what TF32's 10 bits, or
# anything worse, would do: losses 3e-7 and 3e-5, gradients 2e-3 and 4e-2 for ResNet-20; 4e-6 and 3e-3, 3e-2 and 6e-1
# for ResNet-50.
FLOAT64_LIMIT = 1e-6  # of losses and gradients; logits are rounded to float32 for the loss


@dataclass(frozen=True)
class Case:
    """A net, the batch it sees (`batch` images of `side` x `side` pixels), relative limits in float32."""

    model: ModelConfig
    side: int
    batch: int
    loss_limit: float
    gradient_limit: float

    @property
    def name(self) -> str:
        model = self.model
        return net_name(model.family, model.depth, model.residual, model.shortcut, model.stride_on)


_CIFAR = ModelConfig(
    family="cifar", depth=20, residual=True, shortcut="A", stride_on="1x1", shortcut_zeros="after", init_fan="fan_in"
)
_IMAGENET = replace(_CIFAR, family="imagenet", depth=50, shortcut="B")
CASES = (Case(_CIFAR, 32, 128, 5e-6, 1e-2), Case(_IMAGENET, 96, 8, 5e-5, 0.15))


def parity(
    device: torch.device, work: Path, cases: Sequence[Case] = CASES, images: int = 2_000
) -> tuple[dict[str, Any], bool]:
    """Differences between `device` and the CPU: loss and gradients within a tolerance, augmentation bit for bit.

    Args:
        images: that are augmented.
    """
    store = synthetic_store(work / "store", images=images, num_val=images // 10)
    config = paper_config(store, work / "runs")
    found = {case.name: differences(case, config.recipe, device) for case in cases}
    augmented = {which: _augments_alike(store, config.recipe, device, which == "train") for which in ("train", "test")}
    within = all(_within(difference) for case in found.values() for difference in case.values())
    return {"differences": found, "augmentation_equal": augmented}, within and all(augmented.values())


def differences(case: Case, recipe: RecipeConfig, device: torch.device) -> dict[str, dict[str, float]]:
    """By precision, how far a training step on `device` is from the same step on the CPU, and how far it may be.

    loss: relative; gradient: length of the difference of all gradients over their length; worst: the greatest of any
    one parameter.
    """
    limits = {torch.float32: (case.loss_limit, case.gradient_limit), torch.float64: (FLOAT64_LIMIT, FLOAT64_LIMIT)}
    found = {}
    for dtype, (loss_limit, gradient_limit) in limits.items():
        (loss, gradients), (other_loss, others) = (
            training_step(case, recipe, where, dtype) for where in (torch.device("cpu"), device)
        )
        apart = torch.stack([(one - other).norm() for one, other in zip(gradients, others, strict=True)])
        lengths = torch.stack([one.norm() for one in gradients])
        found[str(dtype).removeprefix("torch.")] = {
            "loss": abs(other_loss - loss) / abs(loss),
            "loss_limit": loss_limit,
            "gradient": float(apart.norm() / lengths.norm()),
            "gradient_limit": gradient_limit,
            "worst": float((apart / lengths).max()),
        }
    return found


def _within(difference: dict[str, float]) -> bool:
    """NaN is not."""
    return difference["loss"] <= difference["loss_limit"] and difference["gradient"] <= difference["gradient_limit"]


def training_step(
    case: Case, recipe: RecipeConfig, device: torch.device, dtype: torch.dtype
) -> tuple[float, list[Tensor]]:
    """Loss of one step of `Classifier` in `dtype`, and its gradients as float64 on the CPU: the same weights and batch."""
    torch.manual_seed(0)
    num_classes = 10 if case.model.family == "cifar" else 1000
    net = build_model(**asdict(case.model), num_classes=num_classes).to(memory_format=torch.channels_last)
    images = torch.randn(case.batch, 3, case.side, case.side).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(num_classes, (case.batch,))
    classifier = Classifier(net, recipe).to(device, dtype)
    with float32_products("fp32"):
        loss, _ = classifier.loss(images.to(device, dtype), labels.to(device))
        loss.backward()
    return loss.item(), [p.grad.cpu().double() for p in net.parameters() if p.grad is not None]


def _augments_alike(store: Store, recipe: RecipeConfig, device: torch.device, train: bool) -> bool:
    """Whether the same images and draws become the same floats on both devices."""
    indices, _ = store.split_indices("full")
    draws = np.random.default_rng(0).random((len(indices), 3), dtype=np.float32) if train else None
    outputs = []
    for where in (torch.device("cpu"), device):
        batches = batches_of(store.train(), store.statistics("full"), recipe.augment, recipe.normalize, 1)
        rows, drawn = batches.fetch(indices, draws)
        outputs.append(batches.finish((rows.to(where), drawn.to(where)))[0].cpu())
    return torch.equal(*outputs)
