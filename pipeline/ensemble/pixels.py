"""Images as users send them to the served ensemble: checked, or refused in one sentence.

An image is nested lists or an array of shape (H, W, C), or an encoded PNG or JPEG as base64. Nothing is rounded, clipped or
resized, since a net names some class for any pixels: a wrong guess at what was meant would look like an answer.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline.data.orientation import SIDEWAYS, orientation, upright
from pipeline.errors import PipelineError, printable

BYTES, UNIT = "uint8", "unit"
PIXELS = (BYTES, UNIT)  # what numbers mean: integers from 0 to 255, or fractions of full brightness from 0 to 1
_SEND = {
    BYTES: 'send integers from 0 to 255, or declare fractions from 0 to 1 with {"params": {"pixels": "unit"}}',
    UNIT: 'with "pixels": "unit", send numbers from 0 to 1',
}
_MODES = {1: ("L",), 3: ("RGB", "L")}  # of decoded images that a net of so many channels takes, by Pillow's names


def pixels_of(images: Any, shape: Sequence[int], pixels: str = BYTES) -> torch.Tensor:
    """(N, H, W, C) uint8, or float32 from 0 to 255 where numbers are fractions.

    Args:
        images: N images in a list or an array; arrays of objects hold what JSON held.
        shape: (H, W, C) that the nets take.
        pixels: one of PIXELS; encoded images are the same for both.
    Raises:
        PipelineError: anything else, or no image.
    """
    require_known(pixels)
    if isinstance(images, np.ndarray) and images.dtype != object:
        return _from_array(images, shape, pixels)
    images = images.tolist() if isinstance(images, np.ndarray) else images
    if not isinstance(images, list) or not images:
        raise PipelineError(f"no images; send a list of one or more, each {_shape(shape)}")
    if all(isinstance(image, str) for image in images):
        require = partial(_require_size, shape=shape)
        return torch.from_numpy(
            np.stack([decoded(image, i, shape[2], require, _shape(shape)) for i, image in enumerate(images)])
        )
    if all(isinstance(image, np.ndarray) for image in images):
        return torch.cat([_from_array(image[None], shape, pixels) for image in images])
    return _from_array(_array(images, shape, pixels), shape, pixels)


def require_known(pixels: Any) -> None:
    """Raises PipelineError if `pixels` is none of PIXELS."""
    if pixels not in PIXELS:
        raise PipelineError(f'"pixels" is {printable(repr(pixels))}; choose "uint8" or "unit"')


def _array(images: list[Any], shape: Sequence[int], pixels: str) -> np.ndarray:
    """Nested lists as an array; NumPy alone would take true for 1 and "7" for a text."""
    level = images
    for axis, size in enumerate(shape):
        for entry in level:
            if type(entry) is not list or len(entry) != size:
                what = f"a list of {len(entry)}" if type(entry) is list else f"{_kind(entry)}"
                raise PipelineError(
                    f"{what} where axis {axis + 1} of an image has {size} entries; each image is {_shape(shape)} in nested lists"
                )
        level = list(chain.from_iterable(level))
    for kind in set(map(type, level)) - {int, float}:
        raise PipelineError(
            f"{_kind(next(value for value in level if type(value) is kind))} as a pixel; {_SEND[pixels]}"
        )
    if pixels == BYTES and float in set(map(type, level)):
        raise PipelineError(f"{next(value for value in level if type(value) is float)!r} as a pixel; {_SEND[pixels]}")
    if outside := [value for value in (min(level), max(level)) if not 0 <= value <= 255]:
        raise PipelineError(f"{printable(outside[0], 40)} as a pixel; {_SEND[pixels]}")
    return np.array(level, np.uint8 if pixels == BYTES else np.float64).reshape(-1, *shape)


def _from_array(images: np.ndarray, shape: Sequence[int], pixels: str) -> torch.Tensor:
    if not len(images) or images.shape[1:] != tuple(shape):
        raise PipelineError(
            f"an array of shape {images.shape}; send (N, H, W, C), one or more images of {_shape(shape)}"
        )
    if images.dtype.kind not in ("ui" if pixels == BYTES else "uif"):
        raise PipelineError(f"an array of {images.dtype}; {_SEND[pixels]}")
    most = 255 if pixels == BYTES else 1
    if not (images.min() >= 0 and images.max() <= most):  # false for NaN
        raise PipelineError(f"pixels from {images.min()} to {images.max()}; {_SEND[pixels]}")
    if pixels == BYTES:
        return torch.from_numpy(images.astype(np.uint8))
    return torch.from_numpy((images.astype(np.float64) * 255).astype(np.float32))


def _require_size(width: int, height: int, index: int, shape: Sequence[int]) -> None:
    if (height, width) != tuple(shape[:2]):
        raise PipelineError(f"image {index} has {width} x {height} pixels; the nets take {shape[1]} x {shape[0]}")


def decoded(text: str, index: int, channels: int, require: Callable[[int, int, int], None], numbers: str) -> np.ndarray:
    """(H, W, C) uint8 of an encoded image, turned upright as its EXIF orientation says.

    Args:
        index: of the image in its request.
        require: raises PipelineError for a width and a height that are not taken, before pixels are decoded; its third
            argument is the index.
        numbers: what an image is that comes as numbers, for the error.
    Raises:
        PipelineError: anything else than a PNG or JPEG, grey or RGB as `channels` asks for.
    """
    try:
        encoded = base64.b64decode(text, validate=True)
        image = Image.open(BytesIO(encoded), formats=("PNG", "JPEG"))
        width, height = image.size if orientation(image) < SIDEWAYS else image.size[::-1]
        require(width, height, index)
        if image.mode not in _MODES[channels] or "transparency" in image.info or getattr(image, "is_animated", False):
            raise PipelineError(
                f"image {index} is {image.format} of mode {image.mode}; send {'grey' if channels == 1 else 'grey or RGB'} "
                "with 8 bits a channel, without transparency or animation"
            )
        return np.array(upright(image).convert(_MODES[channels][0])).reshape(height, width, channels)
    except (binascii.Error, ValueError, OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, PipelineError):
            raise
        raise PipelineError(
            f"image {index} is a text that holds no whole PNG or JPEG in base64 ({printable(error, 80)}); "
            f"send one, or {numbers} numbers in nested lists"
        ) from None


def _shape(shape: Sequence[int]) -> str:
    height, width, channels = shape
    return f"{height} x {width} x {channels} (rows, columns, channels)"


def _kind(value: Any) -> str:
    """What JSON calls it, with the value where it is short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"the text {printable(repr(value), 40)}"
    if isinstance(value, int | float):
        return f"the number {printable(value, 40)}"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__
