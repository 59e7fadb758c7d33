"""Normalisation by one mean and one deviation a channel."""

from __future__ import annotations

import numpy as np

from pipeline.data.store import Statistics
from pipeline.errors import PipelineError

# Mean and std of RGB in [0, 1]: those of torchvision's weights; those of public CIFAR repositories, whose std is the mean
# of the images' own; and those that map pixels to [-1, 1] and [0, 1].
FIXED = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10_public": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100_public": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def channel_constants(normalize: str, statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """Mean and std, (C,) float32 of pixels in [0, 1], for a `recipe.normalize` other than per_pixel_mean.

    A channel with one value in all images gets a std of 1, so that its pixels become 0.

    Raises:
        PipelineError: constants of RGB for images that are not RGB.
    """
    if normalize == "channel":
        return statistics.mean, np.where(statistics.std > 0, statistics.std, np.float32(1))
    mean, std = (np.array(values, np.float32) for values in FIXED[normalize])
    if normalize not in ("half", "unit") and len(statistics.mean) != len(mean):
        raise PipelineError(
            f"recipe.normalize={normalize} is for RGB images, but these have {len(statistics.mean)} channel "
            "(override: recipe.normalize=channel)"
        )
    return mean[: len(statistics.mean)], std[: len(statistics.mean)]
