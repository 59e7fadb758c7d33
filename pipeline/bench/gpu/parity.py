"""Whether a GPU computes what the CPU does: loss, gradients, augmentation. B images, C channels, H x W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.bench.configs import paper_config
from pipeline.bench.synthetic import synthetic_store
from pipeline.config import ModelConfig, RecipeConfig
from pipeline.data.module import batches_of
from pipeline.data.store import Store
from pipeline.models import build_model, net_name
from pipeline.training.classifier import Classifier

# Of float32 without TF32, as a share of the CPU's value.
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-3


@dataclass(frozen=True)
class Case:
    """A net and the batch it sees: `batch` images of `side` x `side` pixels."""

    model: ModelConfig
    side: int
    batch: int

    @property
    def name(self) -> str:
        model = self.model
        return net_name(model.family, model.depth, model.residual, model.shortcut, model.stride_on)


CASES = (
    Case(ModelConfig(family="cifar", depth=20, residual=True, shortcut="A", stride_on="1x1"), 32, 128),
    Case(ModelConfig(family="imagenet", depth=50, residual=True, shortcut="B", stride_on="1x1"), 224, 16),
)


def parity(
    device: torch.device, work: Path, cases: Sequence[Case] = CASES, images: int = 2_000
) -> tuple[dict[str, Any], bool]:
    """Differences between `device` and the CPU: loss and gradients within a tolerance, augmentation bit for bit.

    Args:
        images: that are augmented.
    """
    store = synthetic_store(work / "store", images=images, num_val=images // 10)
    config = paper_config(store, work / "runs")
    differences = {case.name: difference(case, config.recipe, device) for case in cases}
    augmented = {which: _augments_alike(store, config.recipe, device, which == "train") for which in ("train", "test")}
    # Written so that NaN is out of tolerance.
    near = all(d["loss"] <= LOSS_TOLERANCE and d["gradient"] <= GRADIENT_TOLERANCE for d in differences.values())
    tolerances = {"loss": LOSS_TOLERANCE, "gradient": GRADIENT_TOLERANCE}
    values = {"differences": differences, "tolerances": tolerances, "augmentation_equal": augmented}
    return values, near and all(augmented.values())


def difference(case: Case, recipe: RecipeConfig, device: torch.device) -> dict[str, float]:
    """Relative differences of a training step on `device` to the same step on the CPU, in float32.

    loss; gradient: length of the difference of all gradients over the CPU's; worst: the greatest of any one parameter.
    """
    (loss, gradients), (other_loss, other_gradients) = (
        training_step(case, recipe, where) for where in (torch.device("cpu"), device)
    )
    apart = torch.stack([(one - other).norm() for one, other in zip(gradients, other_gradients, strict=True)])
    lengths = torch.stack([one.norm() for one in gradients])
    return {
        "loss": abs(other_loss - loss) / abs(loss),
        "gradient": float(apart.norm() / lengths.norm()),
        "worst": float((apart / lengths).max()),
    }


def training_step(case: Case, recipe: RecipeConfig, device: torch.device) -> tuple[float, list[Tensor]]:
    """Loss and gradients, on the CPU in float64, of one step of `Classifier` in float32: the same weights and batch."""
    torch.manual_seed(0)
    num_classes = 10 if case.model.family == "cifar" else 1000
    net = build_model(**asdict(case.model), num_classes=num_classes).to(memory_format=torch.channels_last)
    images = torch.randn(case.batch, 3, case.side, case.side).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(num_classes, (case.batch,))
    classifier = Classifier(net, recipe).to(device)
    classifier.on_train_start()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        loss = classifier.training_step((images.to(device), labels.to(device)), 0)
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
