"""Splits of the training images into training and validation, and the statistics for normalisation.

N images, K classes, H, W, C as in the store. Results are exact or summed in a fixed order, so they are the same bytes on
every machine and for any number of workers.
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import PipelineError

SPLITS = ("holdout", "full")
ROWS_AT_ONCE = 4096
MEAN_SIDE = 256  # pixels; side of the mean image of images of differing size: the paper's shorter side in tests


def stratified(labels: np.ndarray, count: int, seed: int, key: str = "data.num_val") -> np.ndarray:
    """(count,) int64, sorted: indices drawn class by class, in proportion to the classes' sizes.

    Shares are rounded by the largest remainder (ties go to the earlier class). Then a class that would give no image gives
    one, and a class that would give all keeps one, at the cost of the class with the most to spare.

    Args:
        labels: (N,) int64.
        key: the configuration's key for `count`, named in errors.
    Raises:
        PipelineError: `count` is too small or too large for every class to be on both sides.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    if not len(classes) <= count <= len(labels) - len(classes):
        raise PipelineError(
            f"{key}={count} with {len(labels)} training images in {len(classes)} classes; every class needs an "
            f"image on each side: choose from {len(classes)} to {len(labels) - len(classes)}"
        )
    if sizes.min() < 2:
        raise PipelineError(
            f"class number {classes[sizes.argmin()]} has one image; it needs one to train and one to validate"
        )
    shares = _shares(sizes, count)
    # PCG64's raw output is the same in all NumPy versions; Generator's draws are not.
    keys = np.random.PCG64(seed).random_raw(len(labels))
    chosen = []
    for cls, share in zip(classes, shares, strict=True):
        images = np.flatnonzero(labels == cls)
        chosen.append(images[np.argsort(keys[images], kind="stable")[:share]])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    shares, remainders = np.divmod(count * sizes, sizes.sum())
    short = count - shares.sum()
    shares[np.argsort(-remainders, kind="stable")[:short]] += 1
    for empty in np.flatnonzero(shares == 0):
        shares[shares.argmax()] -= 1
        shares[empty] = 1
    for emptied in np.flatnonzero(shares == sizes):
        shares[emptied] -= 1
        shares[(sizes - shares).argmax()] += 1
    return shares


def make_splits(
    labels: np.ndarray, num_val: int, seed: int, published: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """holdout_train, holdout_val, full_train: sorted int64 indices of training images. `full` has no validation images.

    Args:
        published: indices of the validation images where they are published, which `num_val` and `seed` do not change.
    Raises:
        PipelineError: as `stratified`.
    """
    val = stratified(labels, num_val, seed) if published is None else published
    everything = np.arange(len(labels), dtype=np.int64)
    return {"holdout_train": np.setdiff1d(everything, val), "holdout_val": val, "full_train": everything}


def array_statistics(
    images: np.ndarray, indices: np.ndarray, rows_at_once: int = ROWS_AT_ONCE
) -> dict[str, np.ndarray]:
    """mean (C,), std (C,) and pixel_mean (H, W, C), float32 in [0, 1], of the images at `indices`.

    Args:
        images: (N, H, W, C) uint8, may be memory-mapped: `rows_at_once` of them are held at a time.
    """
    total = np.zeros(images.shape[1:], dtype=np.uint64)
    squares = np.zeros(images.shape[3], dtype=np.uint64)
    table = np.arange(256, dtype=np.uint64) ** 2
    for start in range(0, len(indices), rows_at_once):
        rows = images[indices[start : start + rows_at_once]]
        total += rows.sum(axis=0, dtype=np.uint64)
        for channel in range(rows.shape[3]):
            squares[channel] += table @ np.bincount(rows[..., channel].ravel(), minlength=256).astype(np.uint64)
    pixels = len(indices) * images.shape[1] * images.shape[2]
    mean = total.sum(axis=(0, 1)) / pixels
    return {**_scaled(mean, squares / pixels), "pixel_mean": (total / len(indices) / 255).astype(np.float32)}


class Moments:
    """Statistics of images of differing size, added one at a time; each image has the same weight."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: list[np.ndarray] = []

    def add(self, first: np.ndarray, second: np.ndarray, centre: np.ndarray) -> None:
        """Adds an image's `moments`."""
        self._count += 1
        if not self._sums:
            self._sums = [np.zeros(part.shape, np.float64) for part in (first, second, centre)]
        for total, part in zip(self._sums, (first, second, centre), strict=True):
            np.add(total, part, out=total)

    def statistics(self) -> dict[str, np.ndarray]:
        """mean (C,), std (C,), covariance (C, C) and pixel_mean (MEAN_SIDE, MEAN_SIDE, C), float32 in [0, 1]."""
        first, second, centre = (total / self._count for total in self._sums)
        covariance = (second - np.outer(first, first)) / 255**2
        return {
            **_scaled(first, np.diag(second)),
            "covariance": covariance.astype(np.float32),
            "pixel_mean": (centre / 255).astype(np.float32),
        }


def moments(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three terms that an (H, W, C) uint8 image adds to `Moments`, in units of [0, 255].

    Means (C,) and mean products (C, C) of its channels, float64; its central square, scaled to (MEAN_SIDE, MEAN_SIDE, C)
    uint8.
    """
    planes = np.moveaxis(image, 2, 0).reshape(image.shape[2], -1)
    # Integer sums are exact, and NumPy computes them outside Python's lock.
    first = planes.sum(axis=1, dtype=np.uint64)
    second = np.empty((len(planes), len(planes)), np.uint64)
    for i, plane in enumerate(planes):
        for j in range(i + 1):
            second[i, j] = second[j, i] = np.multiply(plane, planes[j], dtype=np.uint16).sum(dtype=np.uint64)
    return first / planes.shape[1], second / planes.shape[1], _centre(image)


def _centre(image: np.ndarray) -> np.ndarray:
    """(MEAN_SIDE, MEAN_SIDE, C): the central square of an (H, W, C) image, scaled."""
    import cv2

    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    interpolation = cv2.INTER_AREA if side > MEAN_SIDE else cv2.INTER_LINEAR
    square = image[top : top + side, left : left + side]
    scaled = cv2.resize(square, (MEAN_SIDE, MEAN_SIDE), interpolation=interpolation)
    return scaled.reshape(MEAN_SIDE, MEAN_SIDE, image.shape[2])  # cv2 drops a single channel's axis


def evenly(indices: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` of `indices`, evenly spaced: of indices sorted by class, each class contributes its share."""
    if len(indices) <= limit:
        return indices
    return indices[np.arange(limit) * len(indices) // limit]


def _scaled(mean: np.ndarray, mean_square: np.ndarray) -> dict[str, np.ndarray]:
    deviation = np.sqrt(np.maximum(mean_square - mean**2, 0))
    return {"mean": (mean / 255).astype(np.float32), "std": (deviation / 255).astype(np.float32)}
