"""Augmentation on tensors: uint8 images in, normalised float images out, in one pass on the data's device.

Axes: B images, H x W pixels, C channels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PAD_CROP_DRAWS = 3  # row, column, flip


class PadCrop:
    """Mean subtraction, padding, random crop and flip of small images (Sec. 4.2).

    By default the mean is subtracted before padding, so padded pixels are zeros of the normalised image.

    Args:
        mean: (H, W, C) float32 in [0, 1]: the per-pixel mean, or the channel mean repeated.
        std: (C,) float32; ones where only the mean is subtracted.
        padding: pixels on each side.
        flip: whether half of the crops are mirrored.
        black: whether padded pixels are black, less the mean at the border, as in public code.
    """

    def __init__(self, mean: Tensor, std: Tensor, padding: int, flip: bool, black: bool = False) -> None:
        self.padding, self.flip = padding, flip
        self._mean, self._scale = mean * 255.0, 1.0 / (255.0 * std)
        padded = F.pad(self._mean.permute(2, 0, 1), (padding,) * 4, mode="replicate" if black else "constant")
        self._padded_mean = padded.permute(1, 2, 0).contiguous()

    def to(self, device: torch.device) -> PadCrop:
        for name in ("_mean", "_scale", "_padded_mean"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def train(self, images: Tensor, draws: Tensor) -> Tensor:
        """(B, C, H, W) float32 in channels_last memory, from (B, H, W, C) uint8 and (B, 3) float32 draws in [0, 1)."""
        p = self.padding
        choices = 2 * p + 1
        rows, columns = (draws[:, :2] * choices).long().clamp_(max=choices - 1).unbind(1)
        which = torch.arange(len(images), device=images.device)
        padded = F.pad(images, (0, 0, p, p, p, p))
        crops = _windows(padded, choices)[which, rows, columns].float()
        crops -= _windows(self._padded_mean[None], choices)[0, rows, columns]
        crops *= self._scale
        if self.flip:
            crops = torch.where((draws[:, 2] < 0.5)[:, None, None, None], crops.flip(2), crops)
        return crops.permute(0, 3, 1, 2)

    def test(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float32 in channels_last memory, from (B, H, W, C) uint8: the single view of Sec. 4.2."""
        return ((images.float() - self._mean) * self._scale).permute(0, 3, 1, 2)


def _windows(images: Tensor, choices: int) -> Tensor:
    """(B, choices, choices, h, w, C) view of every crop of (B, H, W, C) images; h = H - choices + 1."""
    b, height, width, c = images.shape
    sb, sh, sw, sc = images.stride()
    shape = (b, choices, choices, height - choices + 1, width - choices + 1, c)
    return images.as_strided(shape, (sb, sh, sw, sh, sw, sc))


class ColourShift:
    """AlexNet's colour augmentation (Sec. 3.4): adds one colour to an image, along the pixels' principal axes.

    Each axis is weighted by its eigenvalue times a normal draw (Krizhevsky et al. 2012, Sec. 4.1).

    Args:
        covariance: (C, C) of training pixels in [0, 1].
        std: of the normal draws; AlexNet's is 0.1.
    """

    def __init__(self, covariance: np.ndarray, std: float) -> None:
        values, axes = np.linalg.eigh(covariance.astype(np.float64))
        axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(len(axes))])  # eigh leaves the sign open
        self.width = len(values)
        self._axes = axes * values * std

    def __call__(self, draws: np.ndarray) -> Tensor:
        """(B, C) float32, to be added to images in [0, 1], from (B, C) draws in [0, 1)."""
        uniform = torch.from_numpy(draws.astype(np.float64)).clamp_(min=2**-25)  # draws are multiples of 2**-24
        normal = math.sqrt(2) * torch.erfinv(2 * uniform - 1)
        return (normal @ torch.from_numpy(self._axes.T)).float()


class Normalize:
    """Mean subtraction and scaling of images that already have their final size.

    Args:
        mean: (C, 1, 1) float32 in [0, 1], or (C, H, W) of crops of that size.
        std: (C,) float32; ones where only the mean is subtracted.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self._mean, self._scale = (mean * 255.0)[None], (1.0 / (255.0 * std))[None, :, None, None]

    def to(self, device: torch.device) -> Normalize:
        self._mean, self._scale = self._mean.to(device), self._scale.to(device)
        return self

    def __call__(self, images: Tensor, shift: Tensor | None = None) -> Tensor:
        """(B, C, H, W) float32 in channels_last memory, from uint8 of the same shape.

        Args:
            shift: (B, C) colours in [0, 1] that are added to the images.
        """
        mean = self._mean
        if mean.shape[2:] not in ((1, 1), images.shape[2:]):  # images of other sizes have no per-pixel mean
            mean = mean.mean((2, 3), keepdim=True)
        if shift is not None:
            mean = mean - 255.0 * shift[:, :, None, None]
        return ((images.float() - mean) * self._scale).contiguous(memory_format=torch.channels_last)


def mean_of_crops(pixel_mean: Tensor, side: int, crop: int) -> Tensor:
    """(C, crop, crop) float32: the mean of test views, from the mean (H, W, C) of whole squares.

    Args:
        side: shorter side of an image before its centre is cropped, in pixels.
        crop: side of the crop.
    """
    whole = F.interpolate(pixel_mean.permute(2, 0, 1)[None], size=(side, side), mode="bilinear", antialias=True)[0]
    start = round((side - crop) / 2)
    return whole[:, start : start + crop, start : start + crop]
