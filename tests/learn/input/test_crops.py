"""Crops of JPEGs against Pillow and torchvision: the same choices for the same draws, pixels equal to rounding."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as TF

from pipeline.config import AugmentConfig
from pipeline.learn.input import crops
from pipeline.learn.input.crops import CROP_DRAWS, Crop, Cropper, train_crop

ROUNDING = 2  # levels of 255 by which two ways to resize may differ


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth shapes with some grain."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (height // 9 + 2, width // 9 + 2, 3), dtype=np.uint8))
    smooth = np.asarray(shapes.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    return Image.fromarray((smooth + rng.normal(0, 5, (height, width, 1))).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, **options) -> memoryview:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **{"quality": 90} | options)
    return memoryview(stream.getvalue())


def pixels(jpeg: memoryview) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def made(jpeg: memoryview, side: int, choose, cropper: Cropper | None = None) -> np.ndarray:
    out = np.zeros((1, side, side, 3), np.uint8)
    (cropper or Cropper())([jpeg], lambda n, height, width: choose(height, width), out)
    return out[0]


def random_crop(kind: str, crop: int, sides: tuple[int, int]) -> AugmentConfig:
    return AugmentConfig(kind=kind, crop=crop, min_side=sides[0], max_side=sides[1])


def draws(value: float, **last: float) -> np.ndarray:
    row = np.full(CROP_DRAWS, value, np.float32)
    for place, name in enumerate(("row", "column", "mirrored")):
        row[-3 + place] = last.get(name, value)
    return row


def differ(one: np.ndarray, two: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - two).max())


def slow_train_crop(image: torch.Tensor, row: np.ndarray, augment: AugmentConfig) -> torch.Tensor:
    """The same crop by torchvision: (3, crop, crop) of a (3, H, W) image."""
    *tries, top, left, mirrored = row.tolist()
    crop = augment.crop
    height, width = image.shape[-2:]
    if augment.kind == "scale_jitter":
        side = augment.min_side + int(tries[0] * (augment.max_side - augment.min_side + 1))
        image = TF.resize(image, [side], antialias=True)
        height, width = image.shape[-2:]
        at = int(top * (height - crop + 1)), int(left * (width - crop + 1))
        image = TF.crop(image, *at, crop, crop)
    else:
        h, w = drawn_rectangle(height, width, tries)
        at = int(top * (height - h + 1)), int(left * (width - w + 1))
        image = TF.resized_crop(image, *at, h, w, [crop, crop], antialias=True)
    return image.flip(-1) if mirrored < 0.5 else image


def drawn_rectangle(height: int, width: int, tries: list[float]) -> tuple[int, int]:
    """By RandomResizedCrop's rule: a share of 8 to 100 % of the area, an aspect of 3/4 to 4/3 on a logarithmic scale."""
    for share, aspect in zip(tries[::2], tries[1::2], strict=True):
        area, ratio = height * width * (0.08 + 0.92 * share), 0.75 * (16 / 9) ** aspect
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            return h, w
    if width / height < 0.75:
        return round(width / 0.75), width
    return (height, round(height * 4 / 3)) if width / height > 4 / 3 else (height, width)


@pytest.mark.parametrize("kind", ["random_resized_crop", "scale_jitter"])
@pytest.mark.parametrize("size", [(224, 224), (150, 97), (61, 200), (333, 250)])
def test_a_seed_gives_the_crops_and_flips_that_it_gives_torchvision(kind: str, size: tuple[int, int]) -> None:
    jpeg, cropper = encoded(photo(*size)), Cropper()
    image, augment = torch.from_numpy(pixels(jpeg).copy()).permute(2, 0, 1), random_crop(kind, 96, (100, 180))
    for row in np.random.default_rng(0).random((25, CROP_DRAWS), dtype=np.float32):
        fast = made(jpeg, 96, lambda h, w, row=row: train_crop(h, w, row, augment), cropper)
        slow = slow_train_crop(image, row, augment).permute(1, 2, 0).numpy()
        assert differ(fast, slow) <= ROUNDING


def rectangles(height: int, width: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Top, left, height and width of `count` crops: ours and those of torchvision's RandomResizedCrop, (count, 4) each."""
    augment, theirs = random_crop("random_resized_crop", 96, (0, 0)), RandomResizedCrop(96)
    rows = np.random.default_rng(1).random((count, CROP_DRAWS), dtype=np.float32)
    torch.manual_seed(1)
    image = torch.empty(1, height, width)
    drawn = [theirs.get_params(image, theirs.scale, theirs.ratio) for _ in rows]
    return np.array([train_crop(height, width, row, augment)[:4] for row in rows]), np.array(drawn)


@pytest.mark.parametrize(("height", "width"), [(3000, 3000), (3000, 4000)])
def test_rectangles_are_distributed_as_those_of_torchvision(height: int, width: int) -> None:
    ours, theirs = (
        {
            "share of the area": h * w / (height * width),
            "aspect": w / h,
            "row": top / np.maximum(height - h, 1),
            "column": left / np.maximum(width - w, 1),
        }
        for top, left, h, w in (each.T for each in rectangles(height, width, 4000))
    )
    for name, values in ours.items():
        assert ks_2samp(values, theirs[name]).pvalue > 0.01, name
    for name, ends in {"share of the area": (0.08, 1), "aspect": (3 / 4, 4 / 3)}.items():
        assert (ours[name].min(), ours[name].max()) == pytest.approx(ends, rel=0.02), name


@pytest.mark.parametrize(("height", "width"), [(17, 500), (500, 17)])
def test_the_largest_allowed_rectangle_stands_in_where_none_fits(height: int, width: int) -> None:
    ours, theirs = rectangles(height, width, 20)
    assert np.array_equal(ours[:, 2:], theirs[:, 2:])


@pytest.mark.parametrize("size", [(160, 120), (100, 260), (96, 96)])
def test_a_test_image_is_resized_and_cut_from_the_middle(size: tuple[int, int]) -> None:
    jpeg = encoded(photo(*size))
    image = torch.from_numpy(pixels(jpeg).copy()).permute(2, 0, 1)
    slow = TF.center_crop(TF.resize(image, [110], antialias=True), [96, 96]).permute(1, 2, 0).numpy()
    assert differ(made(jpeg, 96, lambda h, w: crops.test_crop(h, w, 96, 110)), slow) <= ROUNDING


@pytest.mark.parametrize("box", [(20, 30, 60, 80), (20, 30, 150, 170)], ids=["enlarged", "shrunk"])
def test_pixels_are_those_of_pillow(box: tuple[int, int, int, int]) -> None:
    jpeg = encoded(photo(240, 200))
    top, left, height, width = box
    cut = Image.fromarray(pixels(jpeg)).crop((left, top, left + width, top + height))
    slow = np.asarray(cut.resize((96, 96), Image.Resampling.BILINEAR))
    fast = made(jpeg, 96, lambda h, w: Crop(*box, (96, 96)))
    assert differ(fast, slow) <= 1
    mirrored = made(jpeg, 96, lambda h, w: Crop(*box, (96, 96), mirrored=True))
    assert differ(mirrored, slow[:, ::-1]) <= 1


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("more", [{}, {"restart_marker_rows": 1}, {"exif": b"Exif\0\0" + bytes(300)}])
def test_an_image_decoded_no_further_than_its_crop_is_the_same_there(subsampling: int, more: dict) -> None:
    jpeg, cropper = encoded(photo(83, 131), subsampling=subsampling, **more), Cropper()
    whole = pixels(jpeg)
    for bottom in range(16, 132):
        crop = Crop(bottom - 16, 5, 16, 16, (16, 16))
        assert np.array_equal(made(jpeg, 16, lambda h, w, crop=crop: crop, cropper), whole[bottom - 16 : bottom, 5:21])


def test_a_grey_jpeg_becomes_rgb() -> None:
    square = made(encoded(Image.new("L", (8, 6), 100)), 4, lambda h, w: crops.test_crop(h, w, 4, 6))
    assert np.abs(square.astype(int) - 100).max() < 3


def test_images_of_any_size_share_one_cropper() -> None:
    jpegs = [encoded(photo(*size)) for size in ((40, 50), (300, 200), (33, 35))]
    out = np.zeros((3, 24, 24, 3), np.uint8)
    Cropper()(jpegs, lambda n, height, width: crops.test_crop(height, width, 24, 30 + n), out)
    for n, jpeg in enumerate(jpegs):
        assert np.array_equal(out[n], made(jpeg, 24, lambda h, w, n=n: crops.test_crop(h, w, 24, 30 + n)))


def test_fill_bytes_between_markers_are_read_over() -> None:
    jpeg = encoded(photo(40, 30))
    padded = memoryview(bytes(jpeg[:2]) + b"\xff\xff" + bytes(jpeg[2:]))
    one, two = (made(jpeg, 20, lambda h, w: Crop(0, 0, 20, 20, (20, 20))) for jpeg in (jpeg, padded))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("jpeg", [b"", b"\xff\xd8", b"<html>not found</html>", b"\xff\xd8" + bytes(50)])
def test_what_is_no_jpeg_is_an_error(jpeg: bytes) -> None:
    with pytest.raises(ValueError):
        made(memoryview(jpeg), 8, lambda h, w: crops.test_crop(h, w, 8, 8))


@pytest.mark.parametrize("kind", ["random_resized_crop", "scale_jitter"])
@pytest.mark.parametrize("value", [0.0, 0.3, 0.9999])
@pytest.mark.parametrize("size", [(40, 30), (500, 17), (64, 400)])
def test_every_draw_stays_within_the_image(kind: str, value: float, size: tuple[int, int]) -> None:
    width, height = size
    crop = train_crop(height, width, draws(value), random_crop(kind, 16, (20, 60)))
    assert crop.top + crop.height <= height and crop.left + crop.width <= width
    assert all(at >= 0 and at + 16 <= side for at, side in zip(crop.corner, crop.size, strict=True))


def test_half_of_the_draws_mirror_and_none_where_flips_are_off() -> None:
    for value, mirrored in ((0.0, True), (0.49, True), (0.5, False), (0.9, False)):
        row = draws(0.3, mirrored=value)
        for flip in (True, False):
            augment = AugmentConfig(kind="random_resized_crop", crop=16, flip=flip)
            assert train_crop(30, 40, row, augment).mirrored is (flip and mirrored)
