"""Which files are images, and what pixels they give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data.convert import Rejected
from pipeline.ensemble.predictions import evaluation_images
from pipeline.errors import PipelineError
from pipeline.predict.images import Scene, image_files, pixels_of_file, scene_of_file
from pipeline.run.inputs import Resize, resize_of

GREY = Resize(format="arrays", image_size=8, test_side=0, shape=(8, 8, 1))
COLOUR = Resize(format="arrays", image_size=8, test_side=0, shape=(8, 8, 3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    kept_by_systems = (".hidden.png", ".cache/d.png", "deep/@eaDir/_=1.bmp", "lost+found/e.png")
    for name in ("b.png", "a.JPG", "deep/er/c.webp", "notes.txt", "deep/_=1.bmp", "empty/readme", *kept_by_systems):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["b.png"], ["b.png"]),
        (["notes.txt"], ["notes.txt"]),  # asked for by name; it cannot be read, which is said later
        (["."], ["a.JPG", "b.png", "deep/_=1.bmp", "deep/er/c.webp"]),
        (["deep", "b.png", "./deep/er/c.webp"], ["deep/_=1.bmp", "deep/er/c.webp", "b.png"]),
        (["*.*g", "d*p"], ["b.png", "deep/_=1.bmp", "deep/er/c.webp"]),
        (["**/*.webp"], ["deep/er/c.webp"]),
    ],
)
def test_files_folders_and_globs_name_images_once(names: list[str], files: list[str], folder: Path) -> None:
    assert [str(file) for file in image_files(names)] == files


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "predict needs images: pipeline predict photo.jpg"),
        (["none.png"], r"none\.png: no such file or folder"),
        (["*.gif"], r"\*\.gif: no file matches"),
        (["b.png", "empty"], r"empty holds no images; a name ends in \.jpg"),
    ],
)
def test_names_without_images_are_refused_in_a_sentence(names: list[str], sentence: str, folder: Path) -> None:
    with pytest.raises(PipelineError, match=sentence):
        image_files(names)


def test_an_image_of_the_nets_size_keeps_its_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(pixels_of_file(tmp_path / "colour.png", COLOUR, 1), pixels)
    np.testing.assert_array_equal(pixels_of_file(tmp_path / "grey.png", GREY, 1), pixels[..., :1])
    np.testing.assert_array_equal(pixels_of_file(tmp_path / "grey.png", COLOUR, 1), pixels[..., [0, 0, 0]])


def test_a_larger_image_is_cut_to_its_central_square_and_resized(tmp_path: Path) -> None:
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:64] = 255, 0, 0
    pixels[:, 64:96] = 0, 0, 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    square = pixels_of_file(tmp_path / "wide.png", COLOUR, 1)
    assert isinstance(square, np.ndarray)
    assert square[4, 0, 0] > 200 and square[4, 7, 2] > 200 and not square[..., 1].any()  # edges blend
    grey = pixels_of_file(tmp_path / "wide.png", GREY, 1)
    assert isinstance(grey, np.ndarray) and grey[4, 0, 0] > grey[4, 7, 0] > 0  # red is brighter than blue


@pytest.mark.parametrize("name", ["turned.png", "turned.jpg"])
def test_a_photograph_is_turned_as_its_exif_says(name: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (80, 40))
    image.paste("white", (0, 0, 40, 40))  # which is the upper half once it is turned
    image.save(tmp_path / name, exif=exif)
    square = pixels_of_file(tmp_path / name, COLOUR, 1)
    assert isinstance(square, np.ndarray) and square[0].min() > 200 and square[7].max() < 50
    for format_ in ("arrays", "shards"):
        resize = Resize(format=format_, image_size=80, test_side=40, shape=(40, 40, 3))
        scene = scene_of_file(tmp_path / name, resize, 1)
        assert isinstance(scene, Scene) and scene.size == (40, 80)
        third = scene.image.shape[1] // 3
        assert scene.image[:, :third].min() > 200 and scene.image[:, -third:].max() < 50


def test_photos_become_what_evaluation_reads_from_the_store(photos: Any) -> None:
    images = evaluation_images(photos.store)
    crops, labels = images.batches(photos.net).fetch(images.indices, None)
    files = image_files([str(photos.folder)])
    assert [("ab"[label], "png" in file.name) for label, file in zip(labels, files, strict=True)] == [
        (file.parent.name, file.suffix == ".png") for file in files
    ]
    resize = resize_of(photos.store, photos.net)
    pixels = np.stack([np.asarray(pixels_of_file(file, resize, 1)) for file in files])
    np.testing.assert_array_equal(pixels, crops.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize(
    ("content", "reason"), [(b"text", "no image that is read here"), (b"", "no image"), (None, "Is a directory")]
)
def test_a_file_without_an_image_says_why(content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content) if content is not None else path.mkdir()
    read = pixels_of_file(path, GREY, 1)
    assert isinstance(read, Rejected) and reason in read.reason


def test_an_image_beyond_the_limit_is_refused_with_the_key_that_raises_it(tmp_path: Path) -> None:
    Image.new("L", (1500, 1000)).save(tmp_path / "large.png")
    read = pixels_of_file(tmp_path / "large.png", GREY, 1)
    assert isinstance(read, Rejected) and "data.limits.megapixels=1" in read.reason
    assert isinstance(pixels_of_file(tmp_path / "large.png", GREY, 2), np.ndarray)
