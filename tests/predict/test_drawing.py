"""Boxes are where they belong in a drawing, and drawings have names of their own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from pipeline.config import DataConfig
from pipeline.predict.drawing import COLOURS, Box, drawing, drawn, names
from pipeline.predict.objects import ImageObjects, Object


def coloured(image: Image.Image, label: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels that have the class's colour; right and bottom belong to no pixel."""
    rows, columns = np.nonzero((np.asarray(image) == ImageColor.getrgb(COLOURS[label])).all(2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_a_small_image_is_enlarged_by_a_whole_factor_and_its_boxes_too() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 128), dtype=np.uint8)
    image = Image.fromarray(pixels)
    made = drawn(image, [Box((10, 20, 30.4, 60), 1, "")])
    assert made.size == (512, 256) and made.mode == "RGB"
    assert coloured(made, 1) == (40, 80, 122, 240)
    np.testing.assert_array_equal(np.asarray(made)[::4, 140::4, 0], pixels[:, 35:])
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_boxes_are_drawn_on_the_photograph_as_its_exif_turns_it(tmp_path: Path) -> None:
    exif, file = Image.Exif(), tmp_path / "a.jpg"
    exif[0x0112] = 6
    Image.new("RGB", (800, 600)).save(file, exif=exif)
    found = ImageObjects(file, [Object(2, "cat", 0.7, (100, 500, 300, 700))])
    config: Any = SimpleNamespace(data=DataConfig(name="cats", source="coco", format="shards"))
    assert list(drawing([found], [file], str(tmp_path / "out"), config)) == [found]
    made = Image.open(tmp_path / "out" / "a.png")
    assert made.size == (600, 800) and coloured(made, 2)[3] == 700


def test_a_photo_keeps_its_pixels_and_lines_grow_with_it() -> None:
    made = drawn(Image.new("RGB", (3000, 1000)), [Box((500, 100, 1500, 900), 0, "")])
    assert made.size == (3000, 1000) and coloured(made, 0) == (500, 100, 1500, 900)
    assert ImageColor.getrgb(COLOURS[0]) == made.getpixel((509, 500)) != made.getpixel((513, 500))


@pytest.mark.parametrize("corners", [(0, 0, 500, 500), (0, 0, 500, 5), (495, 300, 500, 500), (499, 499, 499, 499)])
def test_a_text_stays_in_the_image(corners: tuple[int, ...]) -> None:
    bare, named = (drawn(Image.new("L", (500, 500)), [Box(corners, 2, text)]) for text in ("", "traffic light 0.50"))
    areas = [(np.asarray(image) == ImageColor.getrgb(COLOURS[2])).all(2).sum() for image in (bare, named)]
    assert areas[1] > areas[0] + 1000  # of the plate, less its letters
    assert coloured(named, 2)[0] >= 0 and coloured(named, 2)[2] <= 500


def test_texts_of_boxes_in_one_place_do_not_cover_each_other() -> None:
    corners = (100, 100, 200, 300)
    alone, both = (
        drawn(Image.new("L", (500, 500)), [Box(corners, 0, "first"), Box(corners, 1, text)]) for text in ("", "second")
    )
    plate = coloured(alone, 0)
    assert plate[1] < 100 == coloured(drawn(Image.new("L", (500, 500)), [Box(corners, 0, "")]), 0)[1]
    assert coloured(both, 0)[1] == plate[1] and coloured(both, 1)[3] > 300  # above and below


def test_colours_repeat_when_there_are_more_classes() -> None:
    one, other = (drawn(Image.new("L", (500, 500)), [Box((9, 9, 90, 90), at, "")]) for at in (1, 1 + len(COLOURS)))
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["photos/a.jpg", "photos/b.png"], ["a.png", "b.png"]),
        (["photos/a.jpg", "photos/more/a.jpg"], ["a.png", "more/a.png"]),
        (["photos/a.jpg", "../a.jpg"], None),
        (["a.jpg", "a.webp", "b.png"], ["a.jpg.png", "a.webp.png", "b.png.png"]),
        (["a.jpg"], ["a.png"]),
    ],
)
def test_drawings_lie_as_the_images_do(files: list[str], expected: list[str] | None) -> None:
    made = names([Path(file) for file in files])
    assert made == [Path(name) for name in expected or (f"{Path.cwd().name}/photos/a.png", "a.png")]
