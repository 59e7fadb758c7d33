"""Decoding and cropping of large images, by rows of draws."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data import crops
from pipeline.data.crops import CROP_DRAWS, decode, train_crop

RAMP = torch.arange(40, dtype=torch.uint8).expand(3, 30, 40)  # 40 wide, 30 high; a pixel's value is its column


def draws(value: float, **last: float) -> np.ndarray:
    row = np.full(CROP_DRAWS, value, np.float32)
    for place, name in enumerate(("row", "column", "mirrored")):
        row[-3 + place] = last.get(name, value)
    return row


def test_a_jpeg_is_decoded_to_rgb():
    stream = io.BytesIO()
    Image.new("L", (8, 6), 100).save(stream, "JPEG")
    image = decode(stream.getvalue())
    assert image.shape == (3, 6, 8) and image.dtype == torch.uint8
    assert (image.float() - 100).abs().max() < 3


@pytest.mark.parametrize("kind", ["random_resized_crop", "scale_jitter"])
@pytest.mark.parametrize("value", [0.0, 0.3, 0.9999])
def test_every_draw_gives_a_crop_of_the_asked_size(kind, value):
    made = train_crop(RAMP, draws(value), kind, 16, (20, 60), flip=True)
    assert made.shape == (3, 16, 16) and made.dtype == torch.uint8


def test_scale_jitter_draws_the_shorter_side_and_the_place():
    left = train_crop(RAMP, draws(0.0, mirrored=0.9), "scale_jitter", 30, (30, 60), flip=True)
    right = train_crop(RAMP, draws(0.0, column=0.999, mirrored=0.9), "scale_jitter", 30, (30, 60), flip=True)
    assert left[0, 0].tolist() == list(range(30)) and right[0, 0].tolist() == list(range(10, 40))


def test_a_flip_mirrors_and_can_be_turned_off():
    kept = train_crop(RAMP, draws(0.0), "scale_jitter", 30, (30, 60), flip=False)
    flipped = train_crop(RAMP, draws(0.0), "scale_jitter", 30, (30, 60), flip=True)
    assert torch.equal(kept.flip(-1), flipped)


def test_the_same_draws_give_the_same_crop():
    one, two = (train_crop(RAMP, draws(0.4), "random_resized_crop", 16, (0, 0), flip=True) for _ in range(2))
    assert torch.equal(one, two)


def test_a_test_image_is_resized_and_cut_from_the_middle():
    made = crops.test_crop(RAMP, 20, 30)
    assert made[0, 0].tolist() == list(range(10, 30))
