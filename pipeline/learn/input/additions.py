"""What a recipe adds to normalised training images: random erasing, mixup, CutMix.

All of it is a function of the image's draws, and runs on the device for a whole batch at once, so that steps can be compiled
and recorded. Axes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pipeline.config import AugmentConfig

_AREA = (0.02, 0.33)  # share of the image that is erased, as in torchvision's RandomErasing
_ASPECT = (0.3, 3.3)  # height over width of the rectangle


class Additions:
    """The additions that `augment` asks for; each image has `width` draws for them.

    Attributes:
        mixes: whether a batch has the image before its first one, see `loader.TrainLoader`.
    """

    def __init__(self, augment: AugmentConfig) -> None:
        self._erasing = Erasing(augment.erasing) if augment.erasing else None
        self._mixing = Mixing(augment.mixup, augment.cutmix) if augment.mixes else None
        self.mixes = augment.mixes
        self._erased = Erasing.width if self._erasing else 0  # of the draws, the first
        self.width = self._erased + (Mixing.width if self._mixing else 0)

    def prepared(self, draws: np.ndarray) -> Tensor:
        """(B, width) float32 for `finish`, from as many draws in [0, 1); called where the batch is fetched."""
        ready = draws.copy()
        if self._mixing:
            ready[:, self._erased] = self._mixing.shares(draws[:, self._erased :])
        return torch.from_numpy(ready)

    def finish(self, images: Tensor, labels: Tensor, draws: Tensor) -> tuple[Tensor, ...]:
        """Normalised (B, C, H, W) images and their (B,) labels, altered; of mixed ones, see `Mixing`."""
        if self._erasing:
            images = self._erasing(images, draws[:, : self._erased])
        return self._mixing(images, labels, draws[:, self._erased :]) if self._mixing else (images, labels)


class Erasing:
    """Random erasing (Zhong et al. 2017, arXiv 1708.04896): a rectangle of an image becomes zero, its mean.

    Areas and shapes are those of torchvision's RandomErasing. A rectangle that is longer than the image, which torchvision
    draws again, is cut to its side.
    """

    width = 5  # whether, area, aspect, row, column

    def __init__(self, probability: float) -> None:
        self._probability = probability

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        height, width = images.shape[2:]
        chance, size, shape, row, column = draws.unbind(1)
        area = (_AREA[0] + (_AREA[1] - _AREA[0]) * size) * (height * width)
        low, high = (math.log(aspect) for aspect in _ASPECT)
        aspect = (low + (high - low) * shape).exp()
        tall = (area * aspect).sqrt().round().clamp(1, height)
        wide = (area / aspect).sqrt().round().clamp(1, width)
        top, left = (row * (height - tall + 1)).floor(), (column * (width - wide + 1)).floor()
        inside = _inside(images, (top, top + tall), (left, left + wide))
        return images.masked_fill(inside & (chance < self._probability)[:, None, None, None], 0.0)


class Mixing:
    """Mixes each image with the one before it in the batch: mixup, CutMix, or one of them for half of the images each.

    Every image draws its own share. The order of an epoch is random, so the image before is as good as any.

    Args:
        mixup: alpha of mixup's Beta distribution (Zhang et al. 2017, arXiv 1710.09412); 0 for CutMix alone.
        cutmix: alpha of CutMix's (Yun et al. 2019, arXiv 1905.04899); 0 for mixup alone.
    """

    width = 4  # share, row, column, which

    def __init__(self, mixup: float, cutmix: float) -> None:
        self._mixup, self._cutmix = mixup, cutmix
        # Of images whose last draw is below it, mixup mixes.
        self._by_mixup = 0.5 if mixup and cutmix else 1.0 if mixup else 0.0

    def shares(self, draws: np.ndarray) -> np.ndarray:
        """(B,) float32 in [0, 1]: how much each image keeps of itself, the quantile of its Beta distribution."""
        from scipy.special import betaincinv

        alpha = np.where(draws[:, 3] < self._by_mixup, self._mixup, self._cutmix)
        return betaincinv(alpha, alpha, draws[:, 0].astype(np.float64)).astype(np.float32)

    def __call__(self, images: Tensor, labels: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mixed images, their labels, their second labels, and the shares of the first, from 0.5 to 1.

        Args:
            images: (B + 1, C, H, W), the first of which is mixed into the second alone.
            labels: (B + 1,) int64.
            draws: (B + 1, width), with `shares` in the first column.
        Returns:
            (B, C, H, W) in channels_last memory, (B,) int64, (B,) int64, (B,) float32.
        """
        share, row, column, which = draws[1:].unbind(1)
        kept = share[:, None, None, None]
        if self._cutmix:  # a rectangle around any pixel, cut off at the border
            height, width = images.shape[2:]
            half = (1 - share).sqrt() / 2
            down, across = (half * height).floor(), (half * width).floor()
            y, x = (row * height).floor(), (column * width).floor()
            pasted = _inside(images[1:], (y - down, y + down), (x - across, x + across))
            mixed = (which < self._by_mixup)[:, None, None, None]
            kept = torch.where(mixed, kept, (~pasted).float())
        images = torch.lerp(images[:-1], images[1:], kept).contiguous(memory_format=torch.channels_last)
        shares = kept.mean((1, 2, 3))
        # The class of which an image shows more comes first: it is the one to be wrong about.
        less = shares < 0.5
        first, second = torch.where(less, labels[:-1], labels[1:]), torch.where(less, labels[1:], labels[:-1])
        return images, first, second, torch.where(less, 1 - shares, shares)


def _inside(images: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> Tensor:
    """(B, 1, H, W) bool: the pixels of each image's rectangle, from its first row and column to those before its last."""
    y, x = (torch.arange(side, device=images.device) for side in images.shape[2:])
    down = (y >= rows[0][:, None]) & (y < rows[1][:, None])
    across = (x >= columns[0][:, None]) & (x < columns[1][:, None])
    return (down[:, :, None] & across[:, None, :])[:, None]
