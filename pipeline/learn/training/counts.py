"""Sums of losses and errors over training images, which stay on the device until somebody asks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True)
class Counts:
    """Sums over the training images of all ranks since the first step; the last field counts the images."""

    means: ClassVar[dict[str, str]]  # field -> metric, its mean over images

    loss: float = 0.0

    def since(self, earlier: Counts) -> dict[str, float]:
        """Means over the images counted after `earlier`, of which there must be one."""
        now, then = asdict(self), asdict(earlier)
        images = now["images"] - then["images"]
        return {metric: (now[field] - then[field]) / images for field, metric in self.means.items()}


@dataclass(frozen=True)
class Errors(Counts):
    """Of nets that name the class of an image."""

    means: ClassVar = {"loss": "train/loss", "wrong1": "train/err1"}

    wrong1: float = 0.0  # top-1 errors
    wrong5: float = 0.0
    images: float = 0.0


@dataclass(frozen=True)
class Losses(Counts):
    """Of detectors: the loss, and its two parts."""

    means: ClassVar = {
        "loss": "train/loss",
        "proposals": "train/loss_proposals",
        "regions": "train/loss_regions",
    }

    proposals: float = 0.0  # of the network that proposes regions
    regions: float = 0.0  # of the classes and boxes of regions
    images: float = 0.0


def add_batch(sums: Tensor, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
    """Adds a batch to (4,) float64 sums: loss, top-1 errors, top-5 errors, images.

    An image is a top-k error if k or more other classes do not score lower than its own. Ties count as errors, as in
    `pipeline.evaluation.errors`, and so do NaN scores.
    """
    lower = (logits < logits.gather(1, labels[:, None])).sum(1)
    classes = logits.shape[1]
    sums[0].add_(loss)
    sums[1].add_((lower < classes - 1).sum())
    sums[2].add_((lower < classes - 5).sum())
    sums[3].add_(len(labels))
