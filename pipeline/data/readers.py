"""Readers of the published formats. Each lists records of a name, a label and an image, sorted by class and name.

A record's name is `class/file` for official archives and for class folders, so that both give the same store. The readers
only list; several threads read and decode the images later.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.data.archives import Container, Entry, Folder, Tar, open_container
from pipeline.data.splits import stratified
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
FOLDERS = ("train", "test", "val")


class Record(NamedTuple):
    name: str  # class/file
    label: int
    image: Entry | np.ndarray  # an encoded image, or pixels (H, W, C) uint8


class Published(NamedTuple):
    """A data set as published, in the canonical order."""

    classes: list[str]
    train: list[Record]
    test: list[Record]


@contextmanager
def open_published(layout: str, paths: list[Path], scratch: Path, num_test: int = 0) -> Iterator[Published]:
    """The records of a fetched data set; their images can be read until the block ends.

    Args:
        layout: as in fetch's manifest.
        paths: the manifest's files, in its order.
        scratch: folder for a gzipped tar's decompressed copy.
        num_test: of the digits, which are published as one set.
    Raises:
        PipelineError: a file is damaged, or has another layout.
    """
    with ExitStack() as stack:
        containers = [stack.enter_context(open_container(p, scratch, FOLDERS)) for p in paths if layout != "digits"]
        readers: dict[str, Callable[[], Published]] = {
            "digits": lambda: _digits(paths[0], num_test),
            "cifar-pickles": lambda: _cifar(containers[0]),
            "class-folders": lambda: _class_folders(containers[0]),
            "ilsvrc-tars": lambda: _ilsvrc(containers),
        }
        published = readers[layout]()
        for records in (published.train, published.test):
            records.sort(key=lambda record: (record.label, record.name))
        yield published


def decode(encoded: bytes | memoryview) -> Image:
    """The image, its pixels loaded. EXIF orientation is ignored, as in published results.

    Raises:
        PipelineError: no image of FORMATS, or one with more than 8 bits a channel.
        Exception: the image is damaged; Pillow raises many kinds.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError:
        raise PipelineError(f"no image ({', '.join(FORMATS)})") from None
    image.load()
    if image.mode.startswith(("I", "F")):
        raise PipelineError(f"{image.mode} pixels have more than 8 bits")
    return image


def _digits(path: Path, num_test: int) -> Published:
    with np.load(path) as stored:
        images, labels = stored["images"], stored["labels"]
    pixels = ((images.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)[..., None]  # 0..16 -> 0..255
    records = [Record(f"{label}/{at:04d}", int(label), pixels[at]) for at, label in enumerate(labels)]
    # data.split_seed must not change the test set.
    test = set(stratified(labels, num_test, seed=0, key="data.num_test").tolist())
    train = [record for at, record in enumerate(records) if at not in test]
    return Published([str(digit) for digit in range(10)], train, [records[at] for at in sorted(test)])


def _cifar(archive: Container) -> Published:
    entries = {entry.name.rsplit("/", 1)[-1]: entry for entry in archive.entries()}
    meta = "batches.meta" if "batches.meta" in entries else "meta"
    train = sorted(name for name in entries if name.startswith("data_batch_") or name == "train")
    test = [name for name in entries if name in ("test_batch", "test")]
    if meta not in entries or not train or not test:
        raise PipelineError(f"{archive.path} holds no CIFAR batches in the official Python format; get it anew")
    names = _unpickled(entries[meta])
    classes = names.get("label_names") or names["fine_label_names"]

    def records(batches: list[str]) -> list[Record]:
        return [record for name in batches for record in _batch(_unpickled(entries[name]), classes)]

    return Published(classes, records(train), records(test))


def _batch(batch: dict[str, Any], classes: list[str]) -> Iterator[Record]:
    images = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = batch.get("labels") or batch["fine_labels"]
    for image, label, file in zip(images, labels, batch["filenames"], strict=True):
        yield Record(f"{classes[label]}/{file}", int(label), image)


class _CifarUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain containers; refuses any other name before the pickle can run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")):
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")):
            return super().find_class(module, name)
        raise PipelineError(f"the batch asks for {module}.{name}, which no CIFAR archive needs; get the archive anew")


def _unpickled(entry: Entry) -> dict[str, Any]:
    try:
        return _CifarUnpickler(io.BytesIO(entry.read()), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError) as error:
        raise PipelineError(
            f"{entry.name} in {entry.container.path} is no CIFAR batch ({error}); get it anew"
        ) from None


def _class_folders(container: Container) -> Published:
    """train/<class>/* for training; for testing test/<class>/*, or val/<class>/* if there is no test/.

    In an archive the folders may lie below one top folder. Hidden files and files without an image's extension are
    skipped. Beside a test/, val/ is not read, since validation images come from train/.
    """
    images: dict[str, list[tuple[str, Entry]]] = {folder: [] for folder in FOLDERS}
    for entry in container.entries():
        parts = entry.name.split("/")
        at = 0 if isinstance(container, Folder) or parts[0] in images else 1
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        if len(parts) >= at + 3 and parts[at] in images and not hidden and _is_image(parts[-1]):
            images[parts[at]].append(("/".join(parts[at + 1 :]), entry))
    test = "test" if images["test"] else "val"
    for folder, pattern in (("train", "train/<class>/*"), (test, "test/<class>/* or val/<class>/*")):
        if not images[folder]:
            raise PipelineError(
                f"{container.path} holds no images in {pattern}; arrange them like this and fetch again"
            )
    classes = sorted({name.split("/")[0] for name, _ in images["train"]})
    labels = {name: label for label, name in enumerate(classes)}
    return Published(classes, *(_labelled(container.path, images[folder], labels) for folder in ("train", test)))


def _labelled(path: Path, images: list[tuple[str, Entry]], labels: dict[str, int]) -> list[Record]:
    records: dict[str, Record] = {}
    for name, entry in images:
        folder = name.split("/")[0]
        if folder not in labels:
            raise PipelineError(f"{entry.name} in {path} is of class {folder}, which train/ does not have")
        if name in records:
            raise PipelineError(f"{entry.name} occurs twice in {path}; pack every image once")
        records[name] = Record(name, labels[folder], entry)
    return list(records.values())


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _ilsvrc(tars: list[Container]) -> Published:
    """ImageNet's train tar (which holds a tar per class), val tar and devkit; a label is the rank of its wnid."""
    train_tar, val_tar, devkit = tars
    assert isinstance(train_tar, Tar)
    wnids, truth = _devkit(devkit)
    classes = sorted(wnids.values())
    labels = {wnid: label for label, wnid in enumerate(classes)}
    train = list(_train_records(train_tar, labels))
    images = sorted((entry.name.rsplit("/", 1)[-1], entry) for entry in val_tar.entries() if _is_image(entry.name))
    if len(images) != len(truth):
        raise PipelineError(
            f"{val_tar.path} holds {len(images)} images, but the devkit labels {len(truth)}; get both anew"
        )
    test = []
    for number, (file, entry) in zip(truth, images, strict=True):
        test.append(Record(f"{wnids[number]}/{file}", labels[wnids[number]], entry))
    return Published(classes, train, test)


def _train_records(tar: Tar, labels: dict[str, int]) -> Iterable[Record]:
    missing = set(labels)
    for inner in tar.entries():
        wnid = inner.name.rsplit("/", 1)[-1].removesuffix(".tar")
        if wnid not in labels:
            raise PipelineError(f"{inner.name} in {tar.path} belongs to no class of the devkit; get both anew")
        missing.discard(wnid)
        for entry in tar.inside(inner):
            yield Record(f"{wnid}/{entry.name.rsplit('/', 1)[-1]}", labels[wnid], entry)
    if missing:
        raise PipelineError(
            f"{tar.path} lacks {len(missing)} of the devkit's classes, {min(missing)} the first; get it anew"
        )


def _devkit(devkit: Container) -> tuple[dict[int, str], list[int]]:
    """Wnid of each leaf class by its ILSVRC2012_ID, and the ID of each validation image in the order of names."""
    from scipy.io import loadmat

    meta, truth = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
    entries = {end: entry for entry in devkit.entries() for end in (meta, truth) if entry.name.endswith(end)}
    if len(entries) < 2:
        raise PipelineError(f"{devkit.path} lacks {meta} or {truth}; get ILSVRC2012_devkit_t12.tar.gz anew")
    synsets = loadmat(io.BytesIO(entries[meta].read()), squeeze_me=True)["synsets"]
    wnids = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets if int(s["num_children"]) == 0}
    return wnids, [int(line) for line in entries[truth].read().split()]
