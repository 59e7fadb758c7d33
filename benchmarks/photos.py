"""Seeded JPEGs with as many bytes and as much time to decode as Imagenette's photographs, and preprocess on them.

Noise would cost several times as much. These are windows of one large cloud whose amplitude falls with frequency, a
little more steeply than in photographs, which have edges and smooth areas where a cloud is alike everywhere.

Run as a module, `python -m benchmarks.photos ARCHIVE SIZE CORES`, it is preprocess in a process of its own, without torch,
and prints one line of JSON: seconds (imports aside), images, peak (bytes of memory).
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow  # noqa: F401 (preprocess imports it late; its import is not part of the time)
from PIL import Image

from benchmarks.commands import run
from pipeline.config import DataConfig
from pipeline.data.preprocess import preprocess
from pipeline.data.sources import fetch
from pipeline.data.store import Store, open_store

CLASSES = 4
_CLOUD = 1024  # pixels a side
_SLOPE = 1.44  # of amplitude against frequency: 224x224 pixels are then 10,500 bytes, as in Imagenette
_SPREAD = (55, 11, 11)  # standard deviation of Y, Cb and Cr, as in Imagenette
_QUALITY = 75


def photos(count: int, height: int, width: int, seed: int = 0) -> Iterator[bytes]:
    """Baseline JPEGs, 4:2:0; the sides are at most 1,024 pixels."""
    rng = np.random.default_rng(seed)
    clouds = [_cloud(rng) for _ in _SPREAD]
    for _ in range(count):
        top, left = rng.integers(0, (_CLOUD - height + 1, _CLOUD - width + 1))
        windows = [cloud[top : top + height, left : left + width] for cloud in clouds]
        planes = [(w - w.mean()) / w.std() * spread + 128 for w, spread in zip(windows, _SPREAD, strict=True)]
        image = Image.fromarray(np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8), "YCbCr")
        written = io.BytesIO()
        image.save(written, "JPEG", quality=_QUALITY)
        yield written.getvalue()


def _cloud(rng: np.random.Generator) -> np.ndarray:
    white = np.fft.rfft2(rng.standard_normal((_CLOUD, _CLOUD)))
    frequency = np.hypot(np.fft.fftfreq(_CLOUD)[:, None], np.fft.rfftfreq(_CLOUD)[None])
    frequency[0, 0] = 1
    return np.fft.irfft2(white / frequency**_SLOPE, s=(_CLOUD, _CLOUD))


def photo_archive(path: Path, jpegs: list[bytes], copies: int = 1) -> None:
    """A tar of class folders, every fifth image for testing; each image `copies` times under other names."""
    with tarfile.open(path, "w") as packed:
        for n in range(len(jpegs) * copies):
            split = "train" if n % 5 else "test"
            info = tarfile.TarInfo(f"{split}/class{n // 5 % CLASSES}/{n:06d}.jpg")
            info.size = len(jpegs[n % len(jpegs)])
            packed.addfile(info, io.BytesIO(jpegs[n % len(jpegs)]))


def photo_data(archive: Path, image_size: int, workers: int = 0) -> DataConfig:
    """Such an archive as a data set of shards."""
    return DataConfig(
        name="photos",
        path=str(archive),
        format="shards",
        image_size=image_size,
        num_val=CLASSES,
        split="full",
        workers=workers,
    )


def photo_store(folder: Path, count: int, side: int = 224) -> Store:
    """A store of square photos in an existing folder, made by fetch and preprocess."""
    archive = folder / "photos.tar"
    photo_archive(archive, list(photos(count, side, side)))
    data = photo_data(archive, side)
    fetch(data, folder / "raw", folder)
    preprocess(data, folder / "raw", folder / "store")
    return open_store(folder / "store")


def preprocessed(archive: Path, image_size: int, cores: int) -> dict[str, float]:
    """What preprocess costs on so many cores, in a new process: seconds, images, peak."""
    with TemporaryDirectory(dir=archive.parent) as folder:
        run(Path(folder), "benchmarks.photos", str(archive), str(image_size), str(cores))
        return json.loads((Path(folder) / "output.txt").read_text(encoding="utf-8").splitlines()[-1])


def preprocess_here(archive: Path, image_size: int, cores: int) -> dict[str, float]:
    Image.init()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    data = photo_data(archive, image_size, workers=cores)
    with TemporaryDirectory(dir=archive.parent) as folder:
        raw, out = Path(folder) / "raw", Path(folder) / "store"
        fetch(data, raw, Path(folder))
        start = time.perf_counter()
        manifest = preprocess(data, raw, out)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "images": sum(manifest.counts.values()), "peak": _peak()}


def _peak() -> int:
    """Most bytes of memory that this process has used."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux getrusage also counts the process that this one was forked from.
    return next(
        int(line.split()[1]) * 1024
        for line in status.read_text(encoding="utf-8").splitlines()
        if line.startswith("VmHWM")
    )


if __name__ == "__main__":
    print(json.dumps(preprocess_here(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
