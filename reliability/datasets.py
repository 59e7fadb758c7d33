"""A data set of class folders, and what `pipeline fetch` and `pipeline preprocess` make of one in a child process."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import simplejpeg  # noqa: F401 (imported once here, not in each child)
from PIL import Image

from pipeline import border
from pipeline.atomic import read_json
from pipeline.config import DataConfig
from pipeline.data.preprocess import preprocess
from pipeline.data.sources import fetch
from reliability import Outcome, child

SIDE = 8
CLASSES = ("cat", "dog", "owl")
TRAIN, TEST = 4, 2  # images of a class
MEMORY, TIMEOUT_S = 1 << 30, 5.0

Files = dict[str, bytes]


def png(rng: random.Random, side: int = SIDE) -> bytes:
    pixels = np.frombuffer(rng.randbytes(side * side * 3), np.uint8).reshape(side, side, 3)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def class_folders(rng: random.Random) -> Files:
    """TRAIN and TEST images of each class, by name."""
    names = [f"train/{name}/{n}.png" for name in CLASSES for n in range(TRAIN)]
    return {name: png(rng) for name in names + [f"test/{name}/{n}.png" for name in CLASSES for n in range(TEST)]}


def tarred(files: Files, mode: Literal["w", "w:gz"] = "w", format_: int = tarfile.PAX_FORMAT) -> bytes:
    packed = io.BytesIO()
    options: Any = {"format": format_, "encoding": "utf-8", "errors": "surrogateescape"}
    with tarfile.open(fileobj=packed, mode=mode, **options) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zipped(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def config(path: Path, **changes: object) -> DataConfig:
    values = {"name": "set", "source": "folder", "path": str(path), "image_size": SIDE, "num_val": 3, "workers": 1}
    return DataConfig(**(values | changes))  # type: ignore[arg-type]


def prepared(data: DataConfig, root: Path) -> child.Ended:
    """Ends with the exit status and the words of `pipeline fetch` and `pipeline preprocess`, in limited time and memory."""
    return child.call(partial(_prepare, data, root), cwd=root, timeout_s=TIMEOUT_S, memory=MEMORY)


def _prepare(data: DataConfig, root: Path) -> int:
    import logging
    import sys

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        fetch(data, root / "raw", root)
        preprocess(data, root / "raw", root / "store")
    except BaseException as error:
        return border.report(error, "preprocess")
    return 0


Right = Callable[
    [dict[str, object]], bool
]  # whether a store's manifest is the right one; False where it has to be refused


def outcome(name: str, data: DataConfig, root: Path, right: Right, must: bool = False, named: str = "") -> Outcome:
    """Ok if the data set became the right store, or was refused in one sentence, with nothing else left behind.

    Args:
        must: it is a good data set, so that a refusal is no success.
        named: what the sentence has to name.
    """
    before = _beside(root)
    ended = prepared(data, root)
    left = {path.name for path in _beside(root) - before} - {"raw"}
    if ended.code == 0:
        manifest = read_json(root / "store" / "manifest.json")
        return Outcome(name, left == {"store"} and right(manifest), f"accepted {manifest['counts']}, left {left}")
    sentence = ended.last_line
    clean = ended.refused() and sentence.isprintable() and named in sentence and left <= {"store.corrupt.txt"}
    return Outcome(name, clean and not must, f"{ended.summary()} left {left}")


def _beside(root: Path) -> set[Path]:
    """What lies in `root`, and where names such as ../x and /x in an archive would lead."""
    return {path for folder in (root, root.parent, Path("/")) for path in folder.iterdir()}
