from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.ensemble.pixels import pixels_of
from pipeline.errors import PipelineError

SHAPE = (2, 3, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, *SHAPE), dtype=np.uint8)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> str:
    stream = BytesIO()
    image.save(stream, form, **options)
    return base64.b64encode(stream.getvalue()).decode()


def with_pixel(value: object) -> list:
    images = IMAGES.tolist()
    images[1][1][2][0] = value
    return images


PNG = [encoded(Image.fromarray(image)) for image in IMAGES]


@pytest.mark.parametrize(
    "images",
    [IMAGES, IMAGES.astype(np.int64), IMAGES.tolist(), np.array(IMAGES.tolist(), object), list(IMAGES), PNG],
    ids=["array", "wide", "lists", "objects", "arrays", "png"],
)
def test_whole_numbers_and_encoded_images_keep_their_values(images):
    pixels = pixels_of(images, SHAPE)
    assert pixels.dtype == torch.uint8
    np.testing.assert_array_equal(pixels, IMAGES)


@pytest.mark.parametrize("images", [IMAGES / 255, (IMAGES / 255).tolist(), (IMAGES / 255).astype(np.float32)])
def test_declared_fractions_become_the_same_pixels(images):
    np.testing.assert_allclose(pixels_of(images, SHAPE, "unit"), IMAGES, atol=1e-4)


def test_whole_numbers_are_fractions_where_fractions_are_declared():
    """JavaScript writes 1.0 as 1."""
    assert pixels_of([[[[1]]]], (1, 1, 1), "unit").item() == 255


def test_a_grey_image_is_one_of_equal_channels():
    assert (pixels_of([encoded(Image.new("L", (3, 2), 7), "JPEG")], SHAPE) == 7).all()


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_photograph_is_turned_as_its_exif_says(form):
    exif = Image.Exif()
    exif[0x0112] = 6
    sent = Image.new("L", (2, 3), 7)  # as the nets take it once it is turned
    sent.putpixel((0, 0), 200)
    text = encoded(sent, form, exif=exif)
    expected = np.rot90(np.asarray(Image.open(BytesIO(base64.b64decode(text)))), -1)
    np.testing.assert_array_equal(pixels_of([text], (2, 3, 1))[0, ..., 0], expected)
    with pytest.raises(PipelineError, match="image 0 has 2 x 3 pixels; the nets take 3 x 2"):
        pixels_of([encoded(sent, form)], (2, 3, 1))


@pytest.mark.parametrize("value", [0.5, 5.0, -1, 256, 10**30, True, None, "7", [1], {}, float("nan"), float("inf")])
@pytest.mark.parametrize("boxed", [list, lambda images: np.array(images, object)])
def test_a_pixel_that_is_no_byte_is_refused(value, boxed):
    with pytest.raises(PipelineError, match=r"send integers from 0 to 255, or declare|an image has") as refused:
        pixels_of(boxed(with_pixel(value)), SHAPE)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [-0.1, 1.01, 2, float("nan"), float("inf"), True, "0.5"])
def test_a_pixel_that_is_no_fraction_is_refused(value):
    with pytest.raises(PipelineError, match="numbers from 0 to 1"):
        pixels_of(with_pixel(value), SHAPE, "unit")


@pytest.mark.parametrize(
    "images",
    [
        [],
        IMAGES[:0],
        None,
        7,
        "text",
        {"a": 1},
        [1, 2],
        IMAGES[0],
        IMAGES[0].tolist(),
        IMAGES.transpose(0, 3, 1, 2),
        [*IMAGES.tolist(), [[1]]],
        [*PNG, IMAGES[0].tolist()],
        IMAGES / 255,
        IMAGES.astype(bool),
        IMAGES.astype(str),
        np.full((1, *SHAPE), np.nan),
    ],
)
def test_what_is_no_list_of_such_images_is_refused(images):
    with pytest.raises(PipelineError):
        pixels_of(images, SHAPE)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no whole PNG or JPEG"),
        ("%%", "no whole PNG or JPEG"),
        (base64.b64encode(b"GIF89a").decode(), "no whole PNG or JPEG"),
        (PNG[0][:60], "no whole PNG or JPEG"),
        (encoded(Image.new("RGB", (4, 2))), "the nets take 3 x 2"),
        (encoded(Image.new("L", (5_000, 5_000))), "the nets take 3 x 2"),
        (encoded(Image.new("RGBA", (3, 2))), "without transparency"),
        (encoded(Image.new("CMYK", (3, 2)), "JPEG"), "grey or RGB"),
        (encoded(Image.new("I;16", (3, 2))), "8 bits a channel"),
    ],
    ids=["empty", "alphabet", "gif", "cut", "size", "bomb", "alpha", "cmyk", "16 bits"],
)
def test_a_text_that_is_no_such_image_is_refused(text, sentence):
    with pytest.raises(PipelineError, match=sentence):
        pixels_of([text], SHAPE)


def test_what_numbers_mean_is_one_of_two():
    with pytest.raises(PipelineError, match='choose "uint8" or "unit"'):
        pixels_of(IMAGES, SHAPE, "float")
