"""ImageNet's path: JPEG shards to batches against Pillow and bare libjpeg-turbo; preprocess on cores and over sizes.

Rates of one core are images a second of the CPU time of all threads, which other load on the machine does not change.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torchvision import transforms

from benchmarks.harness import Bench, Measured, Row, one_thread
from benchmarks.photos import photo_archive, photo_store, photos, preprocessed
from pipeline.config import AugmentConfig
from pipeline.data.shards import ShardRecords
from pipeline.data.store import Store
from pipeline.learn.input.batches import ShardBatches, batches_of
from pipeline.learn.input.loader import TrainLoader

CROP, SIDES = 224, (256, 480)
BATCH = 64
PIL_BAR, TURBO_BAR, THREADS_BAR, CORES_BAR, MEMORY_BAR = 5.0, 0.7, 1.7, 1.8, 1.2
LARGE = (375, 500)  # height and width of what preprocess is given, a usual size in ImageNet
STORED = 256  # pixels of the shorter side that it makes of them
GROWTH = 4  # how many times more images the second store has
PAIRS = 9  # for runs of a second or two, in which a shared machine changes its speed


def section(bench: Bench) -> list[Measured]:
    """Delivery of decoded crops, from the bench's store if it holds shards, else from synthetic photos; preprocess."""
    shards = bench.store.manifest.format == "shards"
    store = bench.store if shards else photo_store(bench.folder("photos"), bench.effort.images)
    jpegs = list(photos(bench.effort.images // 10, *LARGE))
    folder = bench.folder("preprocess")
    once, more = folder / "once.tar", folder / "more.tar"
    photo_archive(once, jpegs)
    photo_archive(more, jpegs, GROWTH)
    rows = delivery_rows(store, bench.effort.images)
    rows += preprocess_rows(once, more, len(jpegs)) if _cores() > 1 else []
    return [bench.measure(row) for row in rows]


def delivery_rows(store: Store, count: int) -> list[Row]:
    """Images of the store that reach a batch on one core against Pillow's recipe and bare decoding; by two threads."""
    records = store.train()
    assert isinstance(records, ShardRecords)
    chosen = np.random.default_rng(0).permutation(len(records))[:count]
    jpegs = [bytes(records.jpeg(index)) for index in chosen.tolist()]
    about = f"{len(chosen)} JPEGs of {np.mean([len(jpeg) for jpeg in jpegs]):,.0f} bytes"
    cut, jittered = (partial(rate, store, chosen, kind) for kind in ("random_resized_crop", "scale_jitter"))
    rows = [
        Row(
            name=f"{what}, {about}, against {against}",
            unit="images/s a core",
            bar=bar,
            pairs=PAIRS if reference is decoding_rate else None,
            ours=partial(ours, 1, time.process_time),
            reference=partial(reference, jpegs),
        )
        for what, ours, against, reference, bar in (
            ("random resized crop 224", cut, "Pillow's recipe", pillow_rate, PIL_BAR),
            ("random resized crop 224", cut, "decoding alone", decoding_rate, TURBO_BAR),
            ("scale jitter 256 to 480, crop 224", jittered, "decoding alone", decoding_rate, None),
        )
    ]
    if _cores() == 1:
        return rows
    two = Row(
        name="random resized crop 224 by two threads against one",
        unit="images/s",
        bar=THREADS_BAR,
        ours=partial(cut, 2, time.perf_counter),
        reference=partial(cut, 1, time.perf_counter),
    )
    return [*rows, two]


def preprocess_rows(once: Path, more: Path, count: int) -> list[Row]:
    """Decoding, resizing and encoding on two cores against one; memory for more images against fewer."""

    def speed(cores: int) -> float:
        cost = preprocessed(once, STORED, cores)
        return cost["images"] / cost["seconds"]

    return [
        Row(
            name=f"preprocess {LARGE[1]}x{LARGE[0]} to shorter side {STORED}, two cores against one",
            unit="images/s",
            bar=CORES_BAR,
            pairs=PAIRS,
            ours=lambda: speed(2),
            reference=lambda: speed(1),
        ),
        Row(
            name=f"preprocess, peak memory with {GROWTH * count} images against {count}",
            unit="MB",
            bar=MEMORY_BAR,
            judged="ratio <=",
            pairs=1,
            ours=lambda: preprocessed(more, STORED, 2)["peak"] / 1e6,
            reference=lambda: preprocessed(once, STORED, 2)["peak"] / 1e6,
        ),
    ]


def rate(store: Store, chosen: np.ndarray, kind: str, threads: int, clock: Callable[[], float]) -> float:
    """Images a second that the loader serves: decoded, cropped, mirrored, uint8 in a batch."""
    sides = {"min_side": SIDES[0], "max_side": SIDES[1], "test_side": SIDES[0]}
    augment = AugmentConfig(kind=kind, crop=CROP, padding=0, **sides)  # type: ignore[arg-type]
    records = store.train()
    batches = batches_of(records, store.statistics("full"), augment, "channel", threads)
    assert isinstance(batches, ShardBatches)
    loader = TrainLoader(chosen, len(records), BATCH, 0, batches)
    batches.fetch(chosen[:BATCH], np.zeros((BATCH, batches.width), np.float32))  # makes threads and their memory
    with one_thread():
        start = clock()
        served = sum(len(labels) for _, labels in loader)
        return served / (clock() - start)


def pillow_rate(jpegs: list[bytes]) -> float:
    """The common recipe: Pillow opens, torchvision crops, resizes, mirrors and makes a tensor."""
    recipe = transforms.Compose(
        [transforms.RandomResizedCrop(CROP), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    )
    torch.manual_seed(0)
    with one_thread():
        start = time.process_time()
        for jpeg in jpegs:
            recipe(Image.open(io.BytesIO(jpeg)).convert("RGB"))
        return len(jpegs) / (time.process_time() - start)


def decoding_rate(jpegs: list[bytes]) -> float:
    """libjpeg-turbo alone."""
    start = time.process_time()
    for jpeg in jpegs:
        simplejpeg.decode_jpeg(jpeg)
    return len(jpegs) / (time.process_time() - start)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
