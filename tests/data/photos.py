"""Small images, and the archives that hold them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image


def tar(files: dict[str, bytes], extra: tuple[tarfile.TarInfo, ...] = (), mode: str = "w") -> bytes:
    """A tar of `files`, and of empty entries `extra`; mode w:gz gzips it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return packed.getvalue()


def shard_names(folder: Path, split: str) -> list[str]:
    """Names of all images of a store's shards, in their order."""
    tables = [pa.ipc.open_file(path).read_all() for path in sorted(folder.glob(f"{split}-*.arrow"))]
    return pa.concat_tables(tables)["name"].to_pylist()


def noise(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    """(height, width, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: np.ndarray | Image.Image, format_: str = "PNG", **options) -> bytes:
    written = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(written, format_, **options)
    return written.getvalue()


def held(orientation: int) -> Image.Exif:
    """EXIF of a camera that was held like this."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags
