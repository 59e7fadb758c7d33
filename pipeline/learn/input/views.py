"""Views of a test image of ImageNet's size (Sec. 3.4)."""

from __future__ import annotations

from functools import partial

from pipeline.learn.input.crops import Crop, View, shorter_side, test_crop

SCALES = (224, 256, 384, 480, 640)  # shorter sides of the fully convolutional test, in pixels


def views(kind: str, crop: int, side: int) -> list[View]:
    """The views whose probabilities are averaged.

    single: the centre. ten_crop: four corners, the centre and their mirror images (Krizhevsky et al. 2012, Sec. 4.1).
    multi_scale: whole images and their mirror images at SCALES, for nets that end in a global pool (fully convolutional
    "as in [41, 13]", which mirror). A stored image smaller than a scale is enlarged.

    Args:
        kind: as above.
        crop: side of the crops, in pixels.
        side: shorter side of the image that they are cut from.
    """
    if kind == "single":
        return [View(partial(test_crop, crop=crop, side=side), crop)]
    if kind == "ten_crop":
        return [
            View(partial(_corner, crop, side, place, mirrored), crop)
            for mirrored in (False, True)
            for place in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))
        ]
    return [View(partial(_whole, scale, mirrored), 0) for scale in SCALES for mirrored in (False, True)]


def _corner(crop: int, side: int, place: tuple[float, float], mirrored: bool, height: int, width: int) -> Crop:
    """place: share of the room above and left of the crop, 0 to 1."""
    size = h, w = shorter_side(height, width, side)
    corner = round((h - crop) * place[0]), round((w - crop) * place[1])
    return Crop(0, 0, height, width, size, corner, mirrored)


def _whole(side: int, mirrored: bool, height: int, width: int) -> Crop:
    return Crop(0, 0, height, width, shorter_side(height, width, side), mirrored=mirrored)
