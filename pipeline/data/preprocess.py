"""Makes the store from raw images: converts, checks, splits and measures them; every run gives the same bytes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.atomic import replacing, sha256, write_json
from pipeline.config import DataConfig
from pipeline.data.boxes import Boxes, BoxTable
from pipeline.data.convert import Rejected, ordered_map, stored_form
from pipeline.data.readers import open_published
from pipeline.data.records import Published, Record
from pipeline.data.shards import ShardRecords, ShardWriter
from pipeline.data.sources import fetched
from pipeline.data.splits import SPLITS, Moments, array_statistics, evenly, make_splits, moments
from pipeline.data.store import MANIFEST, ArrayWriter, Manifest
from pipeline.errors import PipelineError, printable
from pipeline.progress import progress

_LOG = logging.getLogger(__name__)
STATISTICS_IMAGES = 10_000  # shards: evenly spaced training images from which the statistics are computed
MAPPED = 512  # images read before the shards are mapped anew: pages once read count as memory in use
VALIDATED = 5  # one training image in so many, where data.num_val is 0 and no validation split is published
LISTED = 5  # bad images named in the error; the report file names all


def preprocess(data: DataConfig, raw: Path, out: Path, statistics_images: int = STATISTICS_IMAGES) -> Manifest:
    """Makes the store `out` from the files that fetch recorded in `raw`.

    Arrays: images of a folder are resized (shorter side to data.image_size) and cropped at the centre; CIFAR's must
    have their published size. Shards: see `shards.as_jpeg`.

    Raises:
        MissingError: nothing was fetched, or a fetched file is missing.
        PipelineError: images cannot be used (`out`.corrupt.txt names all), a class keeps too few of them, a split is
            impossible, or an archive is damaged or beyond data.limits.
    """
    layout, paths = fetched(data, raw)
    workers = data.decoders
    rejected: dict[str, str] = {}
    with open_published(layout, paths, out.parent, data) as published, replacing(out) as part:
        part.mkdir()
        for note in published.notes:
            _LOG.info(f"{data.name}: {note}")
        for what, count, example in published.left_out:
            _LOG.warning(f"left out of {data.name}: {what} ({count:,}, such as {printable(example)})")
        seen: dict[bytes, str] = {}
        usable = _write("train", published.train, part, data, rejected, seen)
        tested = _write("test", published.test, part, data, rejected, seen)
        skipped = _skipped(rejected, data, out.with_name(f"{out.name}.corrupt.txt"))
        _require_classes(published, usable, tested)
        splits, split = _splits(published, usable, data)
        np.savez(part / "splits.npz", **splits)  # type: ignore[arg-type]
        statistics = _statistics(part, data, splits, workers, statistics_images)
        np.savez(part / "statistics.npz", **statistics)  # type: ignore[arg-type]
        side = data.image_size if data.format == "arrays" else 0
        manifest = Manifest.make(
            name=data.name,
            format=data.format,
            classes=tuple(published.classes),
            counts={"train": len(usable), "test": len(tested)},
            channels=statistics["full_mean"].size,
            height=side,
            width=side,
            image_size=data.image_size,
            split=split,
            skipped=skipped,
            files=_files(part, workers),
        )
        write_json(part / MANIFEST, asdict(manifest))
    return manifest


def _write(
    split: str, records: list[Record], part: Path, data: DataConfig, rejected: dict[str, str], seen: dict[bytes, str]
) -> list[Record]:
    """Writes the split's images and labels. Returns the records of the usable images.

    Args:
        seen: names of training images by the hash of their bytes, which train fills and test looks up.
    """
    writer: AbstractContextManager[Any] = (ShardWriter if data.format == "shards" else ArrayWriter)(part, split)
    usable: list[Record] = []
    boxes: list[Boxes] = []
    twice: list[str] = []
    with writer as images, progress(f"{split} images of {data.name}", len(records), "images") as bar:
        converted = ordered_map(lambda record: stored_form(record, data), records, data.decoders)
        for record, (image, digest) in zip(records, converted, strict=True):
            bar.advance()
            if isinstance(image, Rejected):
                rejected[f"{'val' if record.val else split}/{record.name}"] = image.reason
                continue
            images.append(image, record.label, record.name)
            if record.boxes is not None:
                boxes.append(record.boxes.resized(*_size(image)))
            usable.append(record)
            if digest and split == "train":
                seen.setdefault(digest, record.name)
            elif digest in seen:
                twice.append(f"{record.name} of test and {seen[digest]} of train")
    if twice:
        _LOG.warning(f"{len(twice):,} test images of {data.name} are byte for byte training images, such as {twice[0]}")
    np.save(part / f"{split}_labels.npy", _labels(usable))
    if boxes:
        BoxTable.write(part, split, boxes)
    return usable


def _size(stored: bytes | np.ndarray) -> tuple[int, int]:
    """Width and height in pixels."""
    import simplejpeg

    height, width = (
        stored.shape[:2] if isinstance(stored, np.ndarray) else simplejpeg.decode_jpeg_header(stored, strict=False)[:2]
    )
    return width, height


def _labels(records: list[Record]) -> np.ndarray:
    """(N,) int64."""
    return np.array([record.label for record in records], dtype=np.int64)


def _splits(
    published: Published, usable: list[Record], data: DataConfig
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The content of splits.npz, and its facts for the manifest.

    Args:
        usable: training images, those held out for validation included.
    Raises:
        PipelineError: data.num_val leaves a class without an image on one side; no published validation image is usable.
    """
    if not any(record.val for record in published.train):
        labels = _labels(usable)
        classes = len(np.unique(labels))  # one where objects have boxes
        num_val, most = data.num_val or max(len(labels) // VALIDATED, classes), len(labels) - classes
        if not classes <= num_val <= most:
            need = f" in {classes} classes, each of which needs an image on either side" if classes > 1 else ""
            raise PipelineError(
                f"data.num_val={num_val} with {len(labels)} training images{need}; choose from {classes} to {most}, or a fifth "
                "(override: data.num_val=0)"
            )
        splits = make_splits(labels, num_val, data.split_seed)
        if usable[0].boxes is not None:
            val = _leaving_each_class(splits["holdout_val"], usable, published.classes)
            splits = make_splits(labels, num_val, data.split_seed, published=val)
        return splits, {"num_val": num_val, "seed": data.split_seed}
    val = np.flatnonzero([record.val for record in usable])
    if not len(val):
        raise PipelineError(
            f"no image of the validation split of {data.name} can be used; repair or replace its images"
        )
    splits = make_splits(_labels(usable), len(val), 0, published=val.astype(np.int64))
    return splits, {"num_val": len(val), "seed": 0, "published": True}


def _leaving_each_class(val: np.ndarray, usable: list[Record], classes: list[str]) -> np.ndarray:
    """The validation images `val`, with the fewest exchanged for which each class has an image to train on.

    The draw is by class only where an image has one class.

    Args:
        val: (M,) int64, sorted indices of `usable`.
    Raises:
        PipelineError: there are too many of them.
    """
    drawn = set(val.tolist())
    left = Counter(label for at, record in enumerate(usable) if at not in drawn for label in record.labels)
    for label in sorted(_shown(usable)):
        if left[label]:
            continue
        back = next(at for at in sorted(drawn) if label in usable[at].labels)
        others = (
            at for at, record in enumerate(usable) if at not in drawn and all(left[one] > 1 for one in record.labels)
        )
        if (instead := next(others, None)) is None:
            raise PipelineError(
                f"data.num_val={len(val)} leaves no image of class {printable(classes[label])} to train on; draw fewer (override: "
                f"data.num_val={max(1, len(val) // 2)}), or add images of that class"
            )
        drawn = (drawn - {back}) | {instead}
        left.update(usable[back].labels)
        left.subtract(usable[instead].labels)
    return np.array(sorted(drawn), dtype=np.int64)


def _require_classes(published: Published, usable: list[Record], tested: list[Record]) -> None:
    """Every class has an image to train on and one to validate on, and keeps test images where it had any.

    Args:
        usable, tested: the usable images for training and validation, and for testing.
    """
    classes = published.classes
    least = 1 if any(record.val for record in published.train) else 2  # of which one validates
    counts = Counter(label for record in usable if not record.val for label in record.labels)
    for label, name in enumerate(classes):
        if counts[label] < least:
            need = "one to train and one to validate" if least == 2 else "one"
            raise PipelineError(
                f"class {printable(name)} has {'one usable training image' if counts[label] else 'no usable training image'}; "
                f"each class needs {need}: add images, or remove the class"
            )
    lost = sorted(_shown(published.test) - _shown(tested))
    if lost or not tested:
        named = f"class {printable(classes[lost[0]])}" if lost else "any class"
        raise PipelineError(
            f"no usable test image of {named} is left ({len(lost)} classes in all); repair or replace its test images"
        )


def _shown(records: list[Record]) -> set[int]:
    return set().union(*(record.labels for record in records))


def _skipped(rejected: dict[str, str], data: DataConfig, report: Path) -> tuple[str, ...]:
    """Names of the rejected images; raises PipelineError if there are any, unless data.skip_corrupt allows it."""
    report.unlink(missing_ok=True)
    if rejected and not data.skip_corrupt:
        lines = [f"{name}: {reason}" for name, reason in rejected.items()]
        with replacing(report) as file:
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        raise PipelineError(
            f"{len(rejected)} images of {data.name} cannot be used: {'; '.join(lines[:LISTED])}"
            f"{'; ...' if len(lines) > LISTED else ''}. {report} lists all; replace or remove them, or skip them "
            "(override: data.skip_corrupt=true)"
        )
    return tuple(rejected)


def _statistics(
    part: Path, data: DataConfig, splits: dict[str, np.ndarray], workers: int, limit: int
) -> dict[str, np.ndarray]:
    """The content of statistics.npz; for shards, computed from at most `limit` training images of each split."""
    train = {split: splits[f"{split}_train"] for split in SPLITS}
    if data.format == "arrays":
        images = np.load(part / "train_images.npy", mmap_mode="r")
        statistics = {split: array_statistics(images, indices) for split, indices in train.items()}
    else:
        chosen = {split: set(evenly(indices, limit).tolist()) for split, indices in train.items()}
        indices = sorted(set().union(*chosen.values()))
        sums = {split: Moments() for split in SPLITS}
        with progress(f"statistics of {data.name}", len(indices), "images") as bar:
            for index, measured in zip(indices, _moments(part, indices, workers), strict=True):
                for split in SPLITS:
                    if index in chosen[split]:
                        sums[split].add(*measured)
                bar.advance()
        statistics = {split: sums[split].statistics() for split in SPLITS}
    return {f"{split}_{key}": value for split, values in statistics.items() for key, value in values.items()}


def _moments(part: Path, indices: list[int], workers: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Moments of the shards' training images at `indices`, in their order."""
    import simplejpeg

    for start in range(0, len(indices), MAPPED):
        records = ShardRecords(part, "train")

        def measured(index: int, records: ShardRecords = records) -> tuple[np.ndarray, ...]:
            return moments(simplejpeg.decode_jpeg(records.jpeg(index), strict=False))

        yield from ordered_map(measured, indices[start : start + MAPPED], workers)


def _files(part: Path, workers: int) -> dict[str, dict[str, Any]]:
    paths = sorted(part.iterdir())
    hashes = ordered_map(sha256, paths, workers, chunk=1)
    return {p.name: {"bytes": p.stat().st_size, "sha256": hash_} for p, hash_ in zip(paths, hashes, strict=True)}
