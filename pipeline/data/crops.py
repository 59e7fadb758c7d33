"""Decoding and cropping of ImageNet-size JPEGs; every choice comes from a row of draws in [0, 1)."""

from __future__ import annotations

import math
import warnings
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional as TF

TRIES = 5
CROP_DRAWS = 2 * TRIES + 3  # (area, aspect) a try; row, column, flip
_AREA = (0.08, 1.0)  # GoogLeNet's "Inception-style" crop: share of the image's area
_ASPECT = (3 / 4, 4 / 3)


def decode(jpeg: memoryview | bytes) -> Tensor:
    """(3, H, W) uint8."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a read-only map, which decoding only reads
        encoded = torch.frombuffer(jpeg, dtype=torch.uint8)
    return decode_jpeg(encoded, mode=ImageReadMode.RGB)


def train_crop(
    image: Tensor,
    draws: np.ndarray,
    kind: Literal["random_resized_crop", "scale_jitter"],
    crop: int,
    sides: tuple[int, int],
    flip: bool,
) -> Tensor:
    """(3, crop, crop) uint8.

    Args:
        image: (3, H, W) uint8.
        draws: (CROP_DRAWS,) float32 in [0, 1).
        kind: scale_jitter draws the shorter side from `sides` and crops (Sec. 3.4); random_resized_crop draws a
            rectangle and resizes it (torchvision's recipe).
        sides: shorter side's range in pixels, both ends included; read by scale_jitter alone.
    """
    *tries, row, column, mirrored = draws.tolist()
    height, width = image.shape[-2:]
    if kind == "scale_jitter":
        side = sides[0] + int(tries[0] * (sides[1] - sides[0] + 1))
        image = _resize_shorter(image, side)
        height, width = image.shape[-2:]
        top, left = int(row * (height - crop + 1)), int(column * (width - crop + 1))
        image = image[:, top : top + crop, left : left + crop]
    else:
        h, w = _rectangle(height, width, tries)
        top, left = int(row * (height - h + 1)), int(column * (width - w + 1))
        image = TF.resized_crop(image, top, left, h, w, [crop, crop], antialias=True)
    return image.flip(-1) if flip and mirrored < 0.5 else image


def test_crop(image: Tensor, crop: int, side: int) -> Tensor:
    """(3, crop, crop) uint8: shorter side resized to `side`, then the centre."""
    return TF.center_crop(_resize_shorter(image, side), [crop, crop])


def _resize_shorter(image: Tensor, side: int) -> Tensor:
    return image if min(image.shape[-2:]) == side else TF.resize(image, [side], antialias=True)


def _rectangle(height: int, width: int, tries: list[float]) -> tuple[int, int]:
    """Height and width of the first drawn rectangle that fits; the largest allowed central one when none does."""
    low, high = (math.log(a) for a in _ASPECT)
    for share, shape in zip(tries[0::2], tries[1::2], strict=True):
        area = height * width * (_AREA[0] + share * (_AREA[1] - _AREA[0]))
        aspect = math.exp(low + shape * (high - low))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return h, w
    return min(height, round(width / _ASPECT[0])), min(width, round(height * _ASPECT[1]))
