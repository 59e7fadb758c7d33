"""The store of a data set: preprocess writes it, and training reads nothing else.

    manifest.json       Manifest
    splits.npz          holdout_train, holdout_val, full_train: sorted int64 indices of training images
    statistics.npz      <split>_mean, <split>_std (C,), <split>_pixel_mean (H, W, C), shards also <split>_covariance (C, C):
                        float32, [0, 1]
    train_labels.npy    (N,) int64; test_labels.npy likewise
    train_images.npy    arrays: (N, H, W, C) uint8; test_images.npy likewise
    train-00000.arrow   shards: JPEGs (see shards.py); test-00000.arrow likewise
    train_boxes.npy     boxes of objects, where the data set has them (see boxes.py); test_boxes.npy likewise

Images are sorted by class, then by name, whatever their published order; pipeline.learn.input.order decides the order of
training. This module imports NumPy alone; pyarrow is imported with the first JPEG.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.atomic import read_json
from pipeline.data.shards import ShardRecords
from pipeline.data.splits import SPLITS, stratified
from pipeline.data.verified import verify
from pipeline.errors import MissingError, PipelineError, hint

__all__ = ["ArrayRecords", "Manifest", "ShardRecords", "Statistics", "Store", "open_store"]

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Facts about a store."""

    name: str
    format: str  # arrays or shards
    classes: tuple[str, ...]  # a label is an index into them
    counts: dict[str, int]  # images in train and in test
    channels: int
    height: int  # arrays: of every image; shards: 0, they differ
    width: int
    image_size: int  # arrays: side; shards: longest shorter side, in pixels
    split: dict[str, int]  # num_val, seed; published: whether the validation images are, which makes seed 0
    skipped: tuple[str, ...]  # names of images that could not be decoded (data.skip_corrupt=true)
    files: dict[str, dict[str, Any]]  # file name -> bytes, sha256
    content_hash: str  # over all the rest but the name: equal hashes mean equal images, labels, splits, statistics

    @classmethod
    def make(cls, **values: Any) -> Manifest:
        """A manifest with the content hash of the other fields."""
        text = json.dumps({key: value for key, value in values.items() if key != "name"}, sort_keys=True)
        return cls(**values, content_hash=hashlib.sha256(text.encode()).hexdigest())

    @classmethod
    def read(cls, path: Path) -> Manifest:
        values = read_json(path, f"run {hint('preprocess')}")
        values |= {key: tuple(values[key]) for key in ("classes", "skipped")}
        return cls(**{field.name: values[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Statistics:
    """Statistics of a split's training images, float32 in [0, 1]."""

    pixel_mean: np.ndarray  # (H, W, C); shards: of squares around the centre, H = W = splits.MEAN_SIDE
    mean: np.ndarray  # (C,)
    std: np.ndarray  # (C,)
    covariance: np.ndarray | None = None  # (C, C), of pixels over channels; None for arrays


class ArrayRecords:
    """Images of one size, memory-mapped, so that all processes of a machine share one copy. Pickles as a path."""

    def __init__(self, folder: Path, split: str) -> None:
        self._source = (folder, split)
        self.images: np.ndarray = np.load(folder / f"{split}_images.npy", mmap_mode="r")  # (N, H, W, C) uint8
        self.labels: np.ndarray = np.load(folder / f"{split}_labels.npy")  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrayRecords, self._source


class ArrayWriter:
    """Appends images of one size to <split>_images.npy; holds one in memory. Use as a context manager."""

    def __init__(self, folder: Path, split: str) -> None:
        self._file = (folder / f"{split}_images.npy").open("wb")
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._header()  # with the number of rows; NumPy pads headers, so that it fits
        self._file.close()

    def append(self, image: np.ndarray, label: int, name: str) -> None:
        """Adds an (H, W, C) uint8 image. `label` and `name`, which `ShardWriter.append` stores, are ignored here."""
        if not self._count:
            self._shape = image.shape
            self._header()
        assert image.shape == self._shape and image.dtype == np.uint8
        self._file.write(image.tobytes())
        self._count += 1

    def _header(self) -> None:
        end = self._file.tell()
        self._file.seek(0)
        facts = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, facts)
        self._file.seek(max(end, self._file.tell()))


class Store:
    """An open store; see `open_store`. Its files are verified when they are first used (`DamagedError`)."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest

    def split_indices(self, split: str, num_train: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Indices of training and of validation images, sorted int64; `full` has no validation image.

        Args:
            num_train: how many training images to take, stratified by class; 0 for all. Apart from rounding of the classes'
                shares, a smaller number takes a subset of a larger one's images.
        Raises:
            PipelineError: unknown split; more images than there are, or too few for all classes.
        """
        with self._opened("splits.npz") as stored:
            train = stored[f"{_checked(split)}_train"]
            val = stored["holdout_val"] if split == "holdout" else train[:0]
        if num_train and num_train != len(train):
            labels = self.train().labels[train]
            train = train[stratified(labels, num_train, self.manifest.split["seed"], "data.num_train")]
        return train, val

    def statistics(self, split: str) -> Statistics:
        """Statistics of the training images of `split`.

        Raises:
            PipelineError: neither holdout nor full.
        """
        with self._opened("statistics.npz") as stored:
            names = {field.name: f"{_checked(split)}_{field.name}" for field in fields(Statistics)}
            return Statistics(**{key: stored[name] for key, name in names.items() if name in stored})

    def train(self) -> ArrayRecords | ShardRecords:
        """Every training image, including those held out for validation."""
        return self._records("train")

    def test(self) -> ArrayRecords | ShardRecords:
        """Every test image. Code that selects must not call this."""
        return self._records("test")

    def _opened(self, name: str) -> Any:
        self._verify(name)
        return np.load(self.path / name)

    def _verify(self, *names: str) -> None:
        verify(self.path, {name: self.manifest.files[name]["sha256"] for name in names})

    def _records(self, split: str) -> ArrayRecords | ShardRecords:
        self._verify(*(name for name in self.manifest.files if name.startswith((f"{split}_", f"{split}-"))))
        return (ArrayRecords if self.manifest.format == "arrays" else ShardRecords)(self.path, split)


def open_store(path: str | Path) -> Store:
    """The store at `path`, checked for missing and truncated files.

    Raises:
        MissingError: no store, or a missing file.
        PipelineError: a file has another size than preprocess wrote.
    """
    path = Path(path).absolute()
    if not (path / MANIFEST).is_file():
        raise MissingError(f"{path} holds no data store; run {hint('preprocess')}")
    manifest = Manifest.read(path / MANIFEST)
    for name, facts in manifest.files.items():
        if not (path / name).is_file():
            raise MissingError(f"{name} is missing from the data store {path}; run {hint('preprocess')}")
        size = (path / name).stat().st_size
        if size != facts["bytes"]:
            raise PipelineError(
                f"{path / name} has {size} bytes, not the {facts['bytes']} that preprocess wrote; "
                f"delete the folder and run {hint('preprocess')}"
            )
    return Store(path, manifest)


def _checked(split: str) -> str:
    if split not in SPLITS:
        raise PipelineError(f"data.split={split}; allowed are {' and '.join(SPLITS)}")
    return split
