"""Raw images -> the canonical store: decoded once, checked, split, measured, the same bytes on every run.

Decoding is done by threads (Pillow decodes outside Python's lock), results are taken in the records' order, and only
a window of them is in memory whatever the size of the set.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from pipeline.atomic import replacing, write_json
from pipeline.config import SIDES, DataConfig
from pipeline.data.readers import Record, decode, open_published
from pipeline.data.shards import ShardRecords, ShardWriter, as_jpeg
from pipeline.data.sources import fetched
from pipeline.data.splits import SPLITS, Moments, array_statistics, evenly, make_splits, moments
from pipeline.data.store import MANIFEST, ArrayWriter, Manifest
from pipeline.progress import progress

if TYPE_CHECKING:
    from PIL.Image import Image

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 4  # images a task
AHEAD = 8  # tasks a worker that may wait or be done: where one core is held up, the others go on
STATISTICS_IMAGES = 10_000  # shards: training images that the channel statistics are taken from, evenly spaced
MAPPED = 512  # images read from shards before these are mapped anew: what was read counts as memory in use
SHOWN = 20  # names of bad images in the error; the rest are in a file


class Rejected(NamedTuple):
    reason: str


def preprocess(data: DataConfig, raw: Path, out: Path) -> Manifest:
    """Makes the store `out` from what fetch left in `raw`; it appears whole or not at all.

    Arrays: images of a folder are resized (shorter side to data.image_size) and cropped at the centre; CIFAR's must
    have their size. Shards: see `shards.as_jpeg`.

    Raises:
        FileNotFoundError: nothing fetched, or a file of it gone.
        ValueError: images that cannot be used, all of them named in `out`.corrupt.txt; a split that cannot be made;
            damaged archives.
    """
    layout, paths = fetched(data, raw)
    workers = data.workers or _cores()
    rejected: dict[str, str] = {}
    with open_published(layout, paths, out.parent) as published, replacing(out) as part:
        part.mkdir()
        train = _write("train", published.train, part, data, workers, rejected)
        test = _write("test", published.test, part, data, workers, rejected)
        skipped = _skipped(rejected, data, out.with_name(f"{out.name}.corrupt.txt"))
        splits = make_splits(train, data.num_val, data.split_seed)
        np.savez(part / "splits.npz", **splits)  # type: ignore[arg-type]
        statistics = _statistics(part, data, splits, workers)
        np.savez(part / "statistics.npz", **statistics)  # type: ignore[arg-type]
        side = data.image_size if data.format == "arrays" else 0
        manifest = Manifest.make(
            name=data.name,
            format=data.format,
            classes=tuple(published.classes),
            counts={"train": len(train), "test": len(test)},
            channels=statistics["full_mean"].size,
            height=side,
            width=side,
            image_size=data.image_size,
            split={"num_val": data.num_val, "seed": data.split_seed},
            skipped=skipped,
            files=_files(part, workers),
        )
        write_json(part / MANIFEST, asdict(manifest))
    return manifest


def _write(
    split: str, records: list[Record], part: Path, data: DataConfig, workers: int, rejected: dict[str, str]
) -> np.ndarray:
    """Writes the split's images; the labels of those that could be used, (N,) int64."""
    writer: AbstractContextManager[Any] = (
        ShardWriter(part, split) if data.format == "shards" else ArrayWriter(part, split)
    )
    finish = _finisher(data)
    labels: list[int] = []
    with writer as images, progress(f"{split} images of {data.name}", len(records), "images") as shown:
        converted = ordered_map(lambda record: _convert(record, finish), records, workers)
        for record, image in zip(records, converted, strict=True):
            shown.advance()
            if isinstance(image, Rejected):
                rejected[f"{split}/{record.name}"] = image.reason
                continue
            images.append(image, record.label, record.name)
            labels.append(record.label)
    stored = np.array(labels, dtype=np.int64)
    np.save(part / f"{split}_labels.npy", stored)
    return stored


def _finisher(data: DataConfig) -> Callable[[bytes, Image], bytes | np.ndarray]:
    side, fixed = data.image_size, data.source in SIDES
    if data.format == "shards":
        return lambda encoded, image: as_jpeg(encoded, image, side)
    return lambda _, image: square(image, side, resize=not fixed)


def _convert(record: Record, finish: Callable[[bytes, Image], bytes | np.ndarray]) -> bytes | np.ndarray | Rejected:
    if isinstance(record.image, np.ndarray):
        return record.image
    encoded = record.image.read()  # a disk that fails to read is no corrupt image, and ends the stage
    try:
        return finish(encoded, decode(encoded))
    except Exception as error:  # Pillow's decoders raise whatever comes
        return Rejected(str(error) or type(error).__name__)


def square(image: Image, side: int, resize: bool) -> np.ndarray:
    """(side, side, 3) uint8: the largest central square, antialiased.

    Raises:
        ValueError: another size, where `resize` is false.
    """
    from PIL.Image import Resampling

    rgb = image.convert("RGB")
    if rgb.size != (side, side):
        if not resize:
            raise ValueError(f"{rgb.width}x{rgb.height} pixels instead of {side}x{side}")
        shorter = min(rgb.size)
        left, top = (rgb.width - shorter) / 2, (rgb.height - shorter) / 2
        rgb = rgb.resize((side, side), Resampling.BICUBIC, box=(left, top, left + shorter, top + shorter))
    return np.asarray(rgb)


def _skipped(rejected: dict[str, str], data: DataConfig, report: Path) -> tuple[str, ...]:
    """Names of the images left out.

    Raises:
        ValueError: there are some, and data.skip_corrupt is false.
    """
    report.unlink(missing_ok=True)
    if rejected and not data.skip_corrupt:
        lines = [f"{name}: {reason}" for name, reason in rejected.items()]
        with replacing(report) as file:
            file.write_text("\n".join(lines) + "\n")
        raise ValueError(
            f"{len(rejected)} images of {data.name} cannot be used: {'; '.join(lines[:SHOWN])}"
            f"{'; ...' if len(lines) > SHOWN else ''}. All are listed in {report}; mend or remove them, or leave them "
            "out (override: data.skip_corrupt=true)"
        )
    return tuple(rejected)


def _statistics(part: Path, data: DataConfig, splits: dict[str, np.ndarray], workers: int) -> dict[str, np.ndarray]:
    if data.format == "arrays":
        images = np.load(part / "train_images.npy", mmap_mode="r")
        found = {split: array_statistics(images, splits[f"{split}_train"]) for split in SPLITS}
    else:
        chosen = {split: set(evenly(splits[f"{split}_train"], STATISTICS_IMAGES).tolist()) for split in SPLITS}
        every = sorted(set().union(*chosen.values()))
        gathered = {split: Moments() for split in SPLITS}
        with progress(f"statistics of {data.name}", len(every), "images") as shown:
            for at, measured in _moments(part, every, workers):
                for split, indices in chosen.items():
                    if at in indices:
                        gathered[split].add(*measured)
                shown.advance()
        found = {split: sums.statistics() for split, sums in gathered.items()}
    return {f"{split}_{key}": value for split, values in found.items() for key, value in values.items()}


def _moments(part: Path, every: list[int], workers: int) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
    """The moments of the training images at `every`, sorted."""
    import simplejpeg

    for start in range(0, len(every), MAPPED):
        some, records = every[start : start + MAPPED], ShardRecords(part, "train")

        def measured(at: int, records: ShardRecords = records) -> tuple[np.ndarray, ...]:
            return moments(simplejpeg.decode_jpeg(records.jpeg(at), strict=False))

        yield from zip(some, ordered_map(measured, some, workers), strict=True)


def _files(part: Path, workers: int) -> dict[str, dict[str, Any]]:
    def facts(path: Path) -> dict[str, Any]:
        with path.open("rb") as file:
            return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}

    paths = sorted(part.iterdir())
    return {path.name: found for path, found in zip(paths, ordered_map(facts, paths, workers, chunk=1), strict=True)}


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, chunk: int = CHUNK
) -> Iterator[Result]:
    """`function` of each item by threads, in the items' order; at most (AHEAD * workers + 1) * chunk results wait."""
    rest, waiting = iter(items), deque[Future[list[Result]]]()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="preprocess")
    try:
        while some := list(islice(rest, chunk)):
            waiting.append(pool.submit(lambda some: [function(item) for item in some], some))
            if len(waiting) > AHEAD * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
