"""Whole images as users send them to served detectors: of any size, each its own; otherwise checked as for nets that classify."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.ensemble.pixels import BYTES, decoded, pixels_of, require_known
from pipeline.errors import PipelineError

MEGAPIXELS = 64  # 1e6 pixels of an image, which take 4 bytes each while they are decoded


def scenes_of(images: Any, channels: int, pixels: str = BYTES) -> Iterator[Tensor]:
    """(C, H, W) uint8 of each image, or float32 from 0 to 255 where numbers are fractions; one is decoded at a time.

    Args:
        images: as `ensemble.pixels.pixels_of` takes them, but each image has a size of its own.
        channels: C, 1 for grey images, 3 for RGB.
        pixels: one of PIXELS.
    Raises:
        PipelineError: anything else, no image, or one of more than MEGAPIXELS; when its turn comes.
    """
    require_known(pixels)
    if isinstance(images, np.ndarray):
        images = list(images) if images.ndim and images.dtype != object else images.tolist()
    if not isinstance(images, list) or not images:
        raise PipelineError(f"no images; send a list of one or more, each {_wanted(channels)}")
    for index, image in enumerate(images):
        yield _scene(image, index, channels, pixels).permute(2, 0, 1)


def _scene(image: Any, index: int, channels: int, pixels: str) -> Tensor:
    """(H, W, C)."""
    if isinstance(image, str):
        return torch.from_numpy(decoded(image, index, channels, _require_size, _wanted(channels)))
    height, width = _size(image)
    if not height * width:
        raise PipelineError(
            f"image {index} is neither pixels nor a text; send {_wanted(channels)}, or a PNG or JPEG in base64"
        )
    return pixels_of([image], (height, width, channels), pixels)[0]


def _require_size(width: int, height: int, index: int) -> None:
    if width * height > 1e6 * MEGAPIXELS:
        raise PipelineError(
            f"image {index} has {width} x {height} pixels; detectors take at most {MEGAPIXELS} million of them"
        )


def _size(image: Any) -> tuple[int, int]:
    """Rows and columns; a 0 of what is no image."""
    if isinstance(image, np.ndarray):
        return (image.shape[0], image.shape[1]) if image.ndim == 3 else (0, 0)
    rows = image if isinstance(image, list) else []
    return len(rows), len(rows[0]) if rows and isinstance(rows[0], list) else 0


def _wanted(channels: int) -> str:
    return f"rows x columns x {channels}"
