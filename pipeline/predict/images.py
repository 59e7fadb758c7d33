"""Image files as users name them, and their pixels as the nets' test data had them.

Axes: H x W pixels of the net's input, C channels.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.data.archives import hidden
from pipeline.data.convert import Finish, Rejected, converted, square
from pipeline.data.listing import EXTENSIONS, is_image
from pipeline.data.orientation import upright
from pipeline.data.shards import as_jpeg
from pipeline.errors import MissingError, PipelineError, printable
from pipeline.learn.input.scenes import decoded
from pipeline.predict.detector import as_tested
from pipeline.run.inputs import Resize

if TYPE_CHECKING:
    from PIL.Image import Image


def image_files(names: Sequence[str]) -> list[Path]:
    """The files that are named, each once: a file itself, the images below a folder by name, the matches of a glob.

    Raises:
        MissingError: no such file or folder, or no match.
        PipelineError: no name, or a folder without images.
    """
    if not names:
        raise PipelineError("predict needs images: pipeline predict photo.jpg, a folder, or a glob in quotes ('*.png')")
    return list(dict.fromkeys(file for name in names for file in _files(name)))


def _files(name: str) -> Iterator[Path]:
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        yield from _images_below(path)
    elif path.exists():
        yield path
    else:
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            what = "no file matches" if glob.has_magic(name) else "no such file or folder"
            raise MissingError(f"{printable(name)}: {what}; names start at {Path.cwd()}")
        for match in map(Path, matches):
            yield from _images_below(match) if match.is_dir() else (match,)


def _images_below(folder: Path) -> list[Path]:
    """Hidden files, such as those that macOS leaves beside photos, are no images, nor are previews of file servers."""
    files = sorted(
        path for path in folder.rglob("*") if is_image(path.name) and not hidden(path.relative_to(folder).parts)
    )
    if not files:
        raise PipelineError(f"{printable(folder)} holds no images; a name ends in {', '.join(EXTENSIONS)}")
    return files


class Scene(NamedTuple):
    """A whole image, as detectors see it."""

    image: Tensor  # (C, H, W) uint8
    size: tuple[int, int]  # width and height of the image as viewers show it, in pixels


def scene_of_file(file: Path, resize: Resize, megapixels: float) -> Scene | Rejected:
    """The whole image, or why the file gives none; otherwise as `pixels_of_file`."""
    return _read(file, _whole(resize), megapixels)


def pixels_of_file(file: Path, resize: Resize, megapixels: float) -> np.ndarray | Rejected:
    """(H, W, C) uint8 of resize.shape, or why the file gives none.

    Args:
        megapixels: the most that is decoded, in 1e6 pixels.
    """
    return _read(file, _square(resize) if resize.format == "arrays" else _centre(resize), megapixels)


def _read(file: Path, finish: Any, megapixels: float) -> Any:
    try:
        encoded = file.read_bytes()
    except OSError as error:
        return Rejected(error.strerror or type(error).__name__)
    return converted(encoded, lambda encoded, image: finish(encoded, upright(image)), megapixels)


def _whole(resize: Resize) -> Callable[[bytes, Image], Scene]:
    def finish(encoded: bytes, image: Image) -> Scene:
        if resize.format == "shards":
            pixels = decoded(as_jpeg(encoded, image, resize.image_size))
        else:
            pixels = np.atleast_3d(np.array(image.convert("L" if resize.shape[2] == 1 else "RGB")))
        return Scene(as_tested(torch.from_numpy(pixels).permute(2, 0, 1), resize), image.size)

    return finish


def _square(resize: Resize) -> Finish:
    channels = resize.shape[2]

    def finish(_: bytes, image: Image) -> np.ndarray:
        grey = image.convert("L") if channels == 1 else image
        return square(grey, resize.image_size, resize=True)[..., :channels]

    return finish


def _centre(resize: Resize) -> Finish:
    # Imported here: small images need no JPEG library.
    from pipeline.learn.input.crops import Cropper, test_crop

    side = resize.shape[0]

    def finish(encoded: bytes, image: Image) -> np.ndarray:
        jpeg, out = as_jpeg(encoded, image, resize.image_size), np.empty(resize.shape, np.uint8)
        Cropper()([memoryview(jpeg)], lambda _, height, width: test_crop(height, width, side, resize.test_side), [out])
        return out

    return finish
