from __future__ import annotations

import cv2
import numpy as np
import pytest
from photos import encoded, noise
from PIL import Image
from records import listed

from pipeline.data.readers import decode


def test_digits_are_scaled_and_their_test_set_is_stratified(tmp_path):
    from sklearn.datasets import load_digits

    published = load_digits()
    np.savez(tmp_path / "digits.npz", images=published.images.astype(np.uint8), labels=published.target)
    classes, train, test = listed("digits", tmp_path / "digits.npz", num_test=360)
    assert classes == list("0123456789") and (len(train), len(test)) == (1437, 360)
    assert not {name for name, *_ in train} & {name for name, *_ in test}
    shares = np.bincount([label for _, label, _ in test])
    assert shares.min() >= 34 and shares.max() <= 37
    name, label, image = train[700]
    source = published.images[int(name.split("/")[1])]
    assert label == published.target[int(name.split("/")[1])]
    assert image.shape == (8, 8, 1) and np.array_equal(image[..., 0], np.round(source * 255 / 16 + 1e-9))
    assert max(image.max() for *_, image in train) == 255


def test_avif_is_decoded_and_heic_refused():
    assert decode(encoded(Image.new("RGB", (64, 48), "red"), "AVIF")).getpixel((9, 9))[0] > 250
    with pytest.raises(ValueError, match=r"no image that is read here .*AVIF"):
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


def test_decode_refuses_what_is_damaged_deep_or_no_image():
    jpeg = encoded(noise(0, 64, 64), "JPEG")
    assert decode(jpeg).size == (64, 64)
    with pytest.raises(OSError, match="truncated"):
        decode(jpeg[:2000])
    with pytest.raises(ValueError, match="no image"):
        decode(b"<html>not found</html>")
    with pytest.raises(ValueError, match="more than 8 bits"):
        decode(encoded(Image.fromarray(np.zeros((4, 4), np.uint16))))
    for ending in (".png", ".tif"):  # of colours, which Pillow cannot write
        with pytest.raises(ValueError, match="RGB pixels have more than 8 bits"):
            decode(cv2.imencode(ending, np.zeros((4, 4, 3), np.uint16))[1].tobytes())
    with pytest.raises(ValueError, match=r"64x64 pixels, more than data\.limits\.megapixels=0\.004 allows"):
        decode(jpeg, megapixels=0.004)
