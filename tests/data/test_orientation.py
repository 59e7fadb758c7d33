"""Photographs are turned as EXIF says."""

from __future__ import annotations

import numpy as np
import pytest
from photos import encoded, held, noise
from PIL import ImageOps

from pipeline.data.orientation import orientation, upright
from pipeline.data.readers import decode


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("number", range(1, 9))
def test_an_image_is_turned_as_pillow_turns_it(number: int, format_: str) -> None:
    image = decode(encoded(noise(3, 5, 7), format_, exif=held(number)))
    turned = upright(image)
    np.testing.assert_array_equal(np.asarray(turned), np.asarray(ImageOps.exif_transpose(image)))
    assert turned.size == ((5, 7) if number > 4 else (7, 5))
    assert (turned is image) == (number == 1 or format_ == "TIFF")  # Pillow turns TIFF when it decodes it


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0" + bytes(300), b"Exif\0\0MM\0*\0\0\0\x08\0\0", held(0), held(9)])
def test_an_image_whose_exif_says_nothing_stays_itself(exif: object) -> None:
    image = decode(encoded(noise(3, 5, 7), "JPEG", exif=exif))
    assert orientation(image) == 1 and upright(image) is image
