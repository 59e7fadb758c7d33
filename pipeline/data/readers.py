"""Readers of the published formats: open, list, and decode. Each lists records of a name, a label and an image.

A record's name is `class/file` for official archives and for class folders, so that both give the same store. The readers
only list; several threads read and decode the images later.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

import numpy as np

from pipeline.config import DataConfig, LimitsConfig
from pipeline.data.archives import Container, open_container
from pipeline.data.cifar import cifar
from pipeline.data.coco import coco
from pipeline.data.imagenet import ilsvrc
from pipeline.data.layouts import read_layout
from pipeline.data.listing import FORMATS, visible
from pipeline.data.records import Published, Record
from pipeline.data.roles import draw_test
from pipeline.data.scenes import TRAIN, TRAIN_OBJECTS, objects, scenes
from pipeline.data.voc import voc
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from PIL.Image import Image


DIGITS_TESTED = 599  # of 1,797, which scenes for testing show
DIGITS = ("digits", "digit-scenes", "digit-objects")  # layouts that are made of scikit-learn's digits


@contextmanager
def open_published(layout: str, paths: list[Path], scratch: Path, data: DataConfig) -> Iterator[Published]:
    """The records of a fetched data set; their images can be read until the block ends.

    Args:
        layout: as in fetch's manifest.
        paths: the manifest's files, in its order.
        scratch: folder for copies of what cannot be read in place: gzipped tars, Arrow and Parquet.
    Raises:
        PipelineError: a file is damaged, has another layout or names that do not print, or goes beyond data.limits.
    """
    with ExitStack() as stack:
        containers = [
            stack.enter_context(open_container(p, scratch, data.limits, visible(data)))
            for p in paths
            if layout not in DIGITS
        ]

        def temporary() -> IO[bytes]:
            scratch.mkdir(parents=True, exist_ok=True)
            return stack.enter_context(TemporaryFile(dir=scratch))

        readers: dict[str, Callable[[], Published]] = {
            "digits": lambda: _digits(paths[0], data.num_test),
            "digit-scenes": lambda: _of_digits(scenes, TRAIN, paths[0], data),
            "digit-objects": lambda: _of_digits(objects, TRAIN_OBJECTS, paths[0], data),
            "cifar-pickles": lambda: cifar(containers[0]),
            "class-folders": lambda: _folders(containers[0], temporary, data),
            "coco": lambda: coco(containers, data.num_test),
            "voc": lambda: voc(containers),
            "ilsvrc-tars": lambda: ilsvrc(containers),
        }
        published = readers[layout]()
        published.arrange(paths[0])
        yield published


def decode(encoded: bytes | memoryview, megapixels: float = LimitsConfig.megapixels) -> Image:
    """The image, its pixels loaded as they are stored (see `orientation.upright`); of an animation, the first frame.

    AVIF's 10 and 12 bits a channel become 8, as its decoder gives them.

    Args:
        megapixels: the most that is decoded, in 1e6 pixels.
    Raises:
        PipelineError: no image of FORMATS, one with more than 8 bits a channel, or one of more pixels.
        Exception: the image is damaged; Pillow raises many kinds.
    """
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, which no key could raise
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError:
        raise PipelineError(f"no image that is read here ({', '.join(FORMATS)})") from None
    if image.width * image.height > megapixels * 1e6:
        raise PipelineError(
            f"{image.width:,}x{image.height:,} pixels, more than data.limits.megapixels={megapixels:g} allows"
        )
    # Of 16-bit colours, Pillow would keep the higher byte.
    if image.mode.startswith(("I", "F")) or re.search(";16[BLN]", str(image.tile)):
        raise PipelineError(f"{image.mode} pixels have more than 8 bits")
    image.load()
    return image


def _digits(path: Path, num_test: int) -> Published:
    with np.load(path) as stored:
        images, labels = stored["images"], stored["labels"]
    pixels = ((images.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)[..., None]  # 0..16 -> 0..255
    records = [Record(f"{label}/{at:04d}", int(label), pixels[at]) for at, label in enumerate(labels)]
    train, test = draw_test(records, num_test)
    return Published([str(digit) for digit in range(10)], train, test)


def _of_digits(make: Callable[..., list[Record]], train: int, path: Path, data: DataConfig) -> Published:
    """`train` scenes or objects, and those for testing, which show digits that no other one shows."""
    digits = _digits(path, DIGITS_TESTED)

    def made(records: list[Record], count: int, split: str) -> list[Record]:
        images = np.stack([np.asarray(record.image)[..., 0] for record in records])
        return make(images, np.array([record.label for record in records]), count, data.split_seed, split)

    return Published(digits.classes, made(digits.train, train, "train"), made(digits.test, data.num_test, "test"))


def _folders(container: Container, temporary: Callable[[], IO[bytes]], data: DataConfig) -> Published:
    """Of CIFAR and ImageNet as class folders, only splits are read, and a test set must be among them."""
    if data.source == "folder":
        return read_layout(container, temporary, data.layout, data.labels, data.num_test)
    return read_layout(container, temporary, "splits", num_test=None)
