"""JPEGs of ImageNet's size -> squares in a batch; every choice comes from a row of draws in [0, 1).

`train_crop` and `test_crop` compute the part of an image to cut out; `Cropper` makes the pixels. Axes: H x W pixels of
the stored image, RGB last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F

from pipeline.config import AugmentConfig
from pipeline.errors import PipelineError

TRIES = 5
CROP_DRAWS = 2 * TRIES + 3  # (area, aspect) a try; row, column, flip
_AREA = (0.08, 1.0)  # GoogLeNet's "Inception-style" crop: share of the image's area
_ASPECT = (3 / 4, 4 / 3)
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # markers of the headers that libjpeg reads
_CONTEXT = 2  # rows below a crop that smooth interpolation of its chroma reads


class Crop(NamedTuple):
    """Resize a rectangle of an image, cut a square from the result, perhaps mirror it. In pixels."""

    top: int  # of the rectangle
    left: int
    height: int
    width: int
    size: tuple[int, int]  # height and width after resizing
    corner: tuple[int, int] = (0, 0)  # top and left of the square in the resized rectangle
    mirrored: bool = False


class View(NamedTuple):
    """One view of a test image, see `pipeline.learn.input.views`."""

    cut: Callable[[int, int], Crop]  # given height and width
    crop: int  # side of the square that is cut; 0 for the whole image

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the net's input."""
        return (self.crop, self.crop) if self.crop else self.cut(height, width).size


def train_crop(height: int, width: int, draws: np.ndarray, augment: AugmentConfig) -> Crop:
    """The random crop of an image of height x width pixels.

    scale_jitter draws the shorter side, both ends of its range included, and crops (Sec. 3.4); random_resized_crop draws
    a rectangle and resizes it (torchvision's recipe).

    Args:
        draws: (CROP_DRAWS,) float32 in [0, 1).
    """
    *tries, row, column, mirrored = draws.tolist()
    mirror, crop = augment.flip and mirrored < 0.5, augment.crop
    if augment.kind == "scale_jitter":
        side = augment.min_side + int(tries[0] * (augment.max_side - augment.min_side + 1))
        size = h, w = shorter_side(height, width, side)
        corner = int(row * (h - crop + 1)), int(column * (w - crop + 1))
        return Crop(0, 0, height, width, size, corner, mirror)
    h, w = _rectangle(height, width, tries)
    top, left = int(row * (height - h + 1)), int(column * (width - w + 1))
    return Crop(top, left, h, w, (crop, crop), mirrored=mirror)


def test_crop(height: int, width: int, crop: int, side: int) -> Crop:
    """Shorter side resized to `side`, then the centre."""
    size = h, w = shorter_side(height, width, side)
    return Crop(0, 0, height, width, size, (round((h - crop) / 2), round((w - crop) / 2)))


class Cropper:
    """Decodes JPEGs and cuts squares from them, in memory that it reuses. Only the thread that made it may call it."""

    def __init__(self) -> None:
        cv2.setNumThreads(0)  # the caller has its own threads
        cv2.ipp.setUseIPP_NotExact(True)  # holds for this thread: Intel's resizing, twice as fast and no less exact
        self._decoded, self._resized, self._copied = (np.empty(0, np.uint8) for _ in range(3))

    def __call__(
        self, jpegs: Sequence[memoryview], choose: Callable[[int, int, int], Crop], out: Sequence[np.ndarray]
    ) -> None:
        """Writes a square of each image.

        Args:
            jpegs: baseline, as `shards.as_jpeg` makes them; unsigned bytes.
            choose: the crop of image n, given n, its height and its width.
            out: as many arrays (h, w, 3) uint8, each in one piece: squares, or as large as the resized image.
        Raises:
            PipelineError: no JPEG that libjpeg-turbo reads.
        """
        # Plans everything first: decoding an image evicts Python's own data from the cache.
        plans = [_planned(jpeg, partial(choose, n)) for n, jpeg in enumerate(jpegs)]
        for (jpeg, rows, width, crop), square in zip(plans, out, strict=True):
            self._decoded, image = _room(self._decoded, (rows, width))
            # Preprocess has checked the images; a warning about bytes below the crop is no error.
            simplejpeg.decode_jpeg(jpeg, buffer=self._decoded, strict=False)
            self._cut(image[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width], crop, square)

    def _cut(self, image: np.ndarray, crop: Crop, out: np.ndarray) -> None:
        if crop.size == out.shape[:2]:
            # Nothing is cut off later: mirroring before resizing writes `out` once.
            self._resize(self._packed(image, mirrored=True) if crop.mirrored else image, crop.size, out)
            return
        self._resized, resized = _room(self._resized, crop.size)
        self._resize(image, crop.size, resized)
        top, left = crop.corner
        square = resized[top : top + len(out), left : left + len(out)]
        if crop.mirrored:
            cv2.flip(square, 1, dst=out)
        else:
            out[:] = square

    def _resize(self, image: np.ndarray, size: tuple[int, int], out: np.ndarray) -> None:
        """Bilinear, antialiased where the image shrinks."""
        height, width = image.shape[:2]
        if height <= size[0] and width <= size[1]:
            cv2.resize(image, size[::-1], dst=out, interpolation=cv2.INTER_LINEAR)
            return
        # OpenCV's bilinear resizing does not antialias. Torch's does, fast if pixels lie one after another.
        image = image if image.flags.c_contiguous else self._packed(image)
        batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
        resized = F.interpolate(batch, size=size, mode="bilinear", antialias=True)
        out[:] = resized.permute(0, 2, 3, 1).numpy()[0]

    def _packed(self, image: np.ndarray, mirrored: bool = False) -> np.ndarray:
        """A copy whose pixels lie one after another."""
        self._copied, copied = _room(self._copied, image.shape[:2])
        if mirrored:
            cv2.flip(image, 1, dst=copied)
        else:
            copied[:] = image
        return copied


def _planned(jpeg: memoryview, choose: Callable[[int, int], Crop]) -> tuple[memoryview, int, int, Crop]:
    """The JPEG to decode, its rows and columns, and the crop.

    If the image extends below the crop, the JPEG is a copy with a smaller height in its header, so decoding ends there.
    """
    at, height, width = _frame(jpeg)
    crop = choose(height, width)
    rows = crop.top + crop.height + _CONTEXT
    if rows >= height:
        return jpeg, height, width, crop
    shorter = bytearray(jpeg)
    shorter[at : at + 2] = rows.to_bytes(2, "big")
    return memoryview(shorter), rows, width, crop


def _room(memory: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """`memory`, enlarged if it is too small, and an (H, W, 3) image at its start.

    It starts at an odd address: libjpeg-turbo writes rows aligned to 32 bytes past the cache, and resizing would wait
    for them.
    """
    count = size[0] * size[1] * 3
    if memory.size < count:
        memory = np.empty(count + 1, np.uint8)
        memory = memory[1 - memory.ctypes.data % 2 :]
    return memory, memory[:count].reshape(*size, 3)


def size_of(jpeg: memoryview) -> tuple[int, int]:
    """Height and width in pixels.

    Raises:
        PipelineError: no JPEG, or its header is cut short.
    """
    return _frame(jpeg)[1:]


def _frame(jpeg: memoryview) -> tuple[int, int, int]:
    """Offset of the two bytes of the height in a JPEG's header; height and width in pixels.

    Raises:
        PipelineError: no JPEG, or its header is cut short.
    """
    at = 2
    try:
        while jpeg[at] == 0xFF:
            if (marker := jpeg[at + 1]) in _FRAMES:
                return at + 5, jpeg[at + 5] << 8 | jpeg[at + 6], jpeg[at + 7] << 8 | jpeg[at + 8]
            at += 1 if marker == 0xFF else 2 + (jpeg[at + 2] << 8 | jpeg[at + 3])
    except IndexError:
        pass
    raise PipelineError("no JPEG with a whole header")


def shorter_side(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width after the shorter one is resized to `side`."""
    return (side, side * width // height) if height <= width else (side * height // width, side)


def _rectangle(height: int, width: int, tries: list[float]) -> tuple[int, int]:
    """Height and width of the first drawn rectangle that fits; if none does, of the largest allowed one."""
    low, high = (math.log(a) for a in _ASPECT)
    for share, shape in zip(tries[0::2], tries[1::2], strict=True):
        area = height * width * (_AREA[0] + share * (_AREA[1] - _AREA[0]))
        aspect = math.exp(low + shape * (high - low))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return h, w
    return min(height, round(width / _ASPECT[0])), min(width, round(height * _ASPECT[1]))
