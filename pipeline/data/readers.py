"""Published formats -> records: a name, a label and an image each, sorted by class and name.

A record's name is `class/file`, and so the same whether the images come from an official archive or as class folders:
both give the same store. Only the listing is made here; images are read and decoded later, by several threads.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.data.archives import Container, Folder, Member, Tar, open_container
from pipeline.data.splits import stratified

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
FOLDERS = ("train", "test", "val")
DIGITS_TEST = 360  # 20 % of 1,797


class Record(NamedTuple):
    name: str  # class/file
    label: int
    image: Member | np.ndarray  # an encoded image, or pixels (H, W, C) uint8


class Published(NamedTuple):
    """A data set as published, in the canonical order."""

    classes: list[str]
    train: list[Record]
    test: list[Record]


@contextmanager
def open_published(layout: str, paths: list[Path], scratch: Path) -> Iterator[Published]:
    """The records of a fetched data set; their images can be read until the block ends.

    Args:
        layout: as in fetch's manifest.
        paths: the manifest's files, in its order.
        scratch: folder for a gzipped tar's decompressed copy.
    Raises:
        ValueError: damaged or in another layout than expected; the sentence says where.
    """
    with ExitStack() as opened:
        containers = [opened.enter_context(open_container(p, scratch, FOLDERS)) for p in paths if layout != "digits"]
        readers: dict[str, Callable[[], Published]] = {
            "digits": lambda: _digits(paths[0]),
            "cifar-pickles": lambda: _cifar(containers[0]),
            "class-folders": lambda: _class_folders(containers[0]),
            "ilsvrc-tars": lambda: _ilsvrc(containers),
        }
        found = readers[layout]()
        for records in (found.train, found.test):
            records.sort(key=lambda record: (record.label, record.name))
        yield found


def decode(encoded: bytes | memoryview) -> Image:
    """The image, its pixels loaded. EXIF orientation is ignored, as in published results.

    Raises:
        ValueError: no image of FORMATS, or one of more than 8 bits a channel.
        Exception: Pillow's, of many kinds, for a damaged one.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"no image ({', '.join(FORMATS)})") from None
    image.load()
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{image.mode} pixels have more than 8 bits")
    return image


def _digits(path: Path) -> Published:
    with np.load(path) as stored:
        images, labels = stored["images"], stored["labels"]
    pixels = ((images.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)[..., None]  # 0..16 -> 0..255
    records = [Record(f"{y}/{at:04d}", int(y), pixels[at]) for at, y in enumerate(labels)]
    # The test set must not move when data.split_seed does.
    held = set(stratified(labels, DIGITS_TEST, seed=0).tolist())
    train = [record for at, record in enumerate(records) if at not in held]
    return Published([str(digit) for digit in range(10)], train, [records[at] for at in sorted(held)])


def _cifar(archive: Container) -> Published:
    members = {member.name.rsplit("/", 1)[-1]: member for member in archive.members()}
    meta = "batches.meta" if "batches.meta" in members else "meta"
    train = sorted(name for name in members if name.startswith("data_batch_") or name == "train")
    test = [name for name in members if name in ("test_batch", "test")]
    if meta not in members or not train or not test:
        raise ValueError(f"{archive.path} holds no CIFAR batches in the official Python format; get it anew")
    names = _unpickled(members[meta])
    classes = names.get("label_names") or names["fine_label_names"]

    def records(batches: list[str]) -> list[Record]:
        return [record for name in batches for record in _batch(_unpickled(members[name]), classes)]

    return Published(classes, records(train), records(test))


def _batch(batch: dict[str, Any], classes: list[str]) -> Iterator[Record]:
    images = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = batch.get("labels") or batch["fine_labels"]
    for image, label, file in zip(images, labels, batch["filenames"], strict=True):
        yield Record(f"{classes[label]}/{file}", int(label), image)


class _CifarUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain containers; a pickle that names anything else is refused before it acts."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")):
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")):
            return super().find_class(module, name)
        raise ValueError(f"the batch asks for {module}.{name}, which no CIFAR archive needs; get the archive anew")


def _unpickled(member: Member) -> dict[str, Any]:
    try:
        return _CifarUnpickler(io.BytesIO(member.read()), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{member.name} in {member.container.path} is no CIFAR batch ({error}); get it anew") from None


def _class_folders(container: Container) -> Published:
    """train/<class>/* for training; test/<class>/*, or where there is no test/ val/<class>/*, for testing.

    The folders may lie in one other folder of an archive. Files that are hidden or have no image's extension are left
    out; a folder of both test/ and val/ has its val/ unread, since validation images are carved from train.
    """
    found: dict[str, list[tuple[str, Member]]] = {folder: [] for folder in FOLDERS}
    for member in container.members():
        parts = member.name.split("/")
        at = 0 if isinstance(container, Folder) or parts[0] in found else 1
        if len(parts) < at + 3 or parts[at] not in found or _hidden(parts) or not _is_image(parts[-1]):
            continue
        found[parts[at]].append(("/".join(parts[at + 1 :]), member))
    test = "test" if found["test"] else "val"
    for folder in ("train", test):
        if not found[folder]:
            wanted = "train/<class>/*" if folder == "train" else "test/<class>/* or val/<class>/*"
            raise ValueError(f"{container.path} holds no images in {wanted}; arrange them so and fetch again")
    classes = sorted({name.split("/")[0] for name, _ in found["train"]})
    labels = {name: label for label, name in enumerate(classes)}
    return Published(classes, *(_labelled(container.path, found[f], labels) for f in ("train", test)))


def _labelled(path: Path, found: list[tuple[str, Member]], labels: dict[str, int]) -> list[Record]:
    records, seen = [], set()
    for name, member in found:
        folder = name.split("/")[0]
        if folder not in labels:
            raise ValueError(f"{member.name} in {path} is of class {folder}, which train/ does not have")
        if name in seen:
            raise ValueError(f"{member.name} occurs twice in {path}; pack every image once")
        seen.add(name)
        records.append(Record(name, labels[folder], member))
    return records


def _hidden(parts: list[str]) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _ilsvrc(tars: list[Container]) -> Published:
    """ImageNet's train tar (of one tar a class), val tar and devkit, in this order; labels are sorted wnids' ranks."""
    train_tar, val_tar, devkit = tars
    assert isinstance(train_tar, Tar)
    wnids, truth = _devkit(devkit)
    classes = sorted(wnids.values())
    labels = {wnid: label for label, wnid in enumerate(classes)}
    train = list(_train_records(train_tar, labels))
    images = sorted((m.name.rsplit("/", 1)[-1], m) for m in val_tar.members() if _is_image(m.name))
    if len(images) != len(truth):
        raise ValueError(
            f"{val_tar.path} holds {len(images)} images, but the devkit labels {len(truth)}; get both anew"
        )
    of = [wnids[number] for number in truth]
    test = [Record(f"{wnid}/{file}", labels[wnid], m) for wnid, (file, m) in zip(of, images, strict=True)]
    return Published(classes, train, test)


def _train_records(tar: Tar, labels: dict[str, int]) -> Iterable[Record]:
    missing = set(labels)
    for inner in tar.members():
        wnid = inner.name.rsplit("/", 1)[-1].removesuffix(".tar")
        if wnid not in labels:
            raise ValueError(f"{inner.name} in {tar.path} is of no class that the devkit names; get both anew")
        missing.discard(wnid)
        for member in tar.inside(inner):
            yield Record(f"{wnid}/{member.name.rsplit('/', 1)[-1]}", labels[wnid], member)
    if missing:
        raise ValueError(
            f"{tar.path} lacks {len(missing)} of the devkit's classes, {min(missing)} the first; get it anew"
        )


def _devkit(devkit: Container) -> tuple[dict[int, str], list[int]]:
    """Wnid of each leaf class by its ILSVRC2012_ID, and the ID of each validation image in the order of names."""
    from scipy.io import loadmat

    wanted = ("data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt")
    found = {end: m for m in devkit.members() for end in wanted if m.name.endswith(end)}
    if len(found) != len(wanted):
        raise ValueError(f"{devkit.path} lacks {' or '.join(wanted)}; get ILSVRC2012_devkit_t12.tar.gz anew")
    synsets = loadmat(io.BytesIO(found[wanted[0]].read()), squeeze_me=True)["synsets"]
    wnids = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets if int(s["num_children"]) == 0}
    return wnids, [int(line) for line in found[wanted[1]].read().split()]
