"""Sums of losses and errors over training images, which stay on the device until somebody asks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Counts:
    """Sums over the training images of all ranks since the first step."""

    loss: float = 0.0
    wrong1: float = 0.0  # top-1 errors
    wrong5: float = 0.0
    images: float = 0.0

    def since(self, earlier: Counts) -> dict[str, float]:
        """Mean loss and top-1 error (a fraction) of the images counted after `earlier`, of which there must be one."""
        images = self.images - earlier.images
        return {
            "train/loss": (self.loss - earlier.loss) / images,
            "train/err1": (self.wrong1 - earlier.wrong1) / images,
        }


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
