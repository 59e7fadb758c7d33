"""A store of noise, and the paper's recipe on it, so that measuring needs no data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.atomic import sha256, write_json
from pipeline.config import (
    AugmentConfig,
    Config,
    DataConfig,
    ModelConfig,
    PathsConfig,
    RecipeConfig,
    SweepConfig,
    TrackingConfig,
)
from pipeline.data.boxes import Boxes, BoxTable
from pipeline.data.splits import SPLITS, make_splits
from pipeline.data.store import MANIFEST, Manifest, Store, open_store

_MEAN, _STD = 0.5, 0.2898  # of uniform bytes in [0, 1]; to measure them would take longer than to write the images


def synthetic_store(
    folder: Path, *, side: int = 32, classes: int = 10, images: int = 50_000, num_val: int = 5_000, repeats: int = 1
) -> Store:
    """A store of RGB noise in arrays, by default of CIFAR-10's size, without test images.

    Args:
        folder: made, or reused when empty.
        repeats: how often the `full` split names each image, so that an epoch can be long without as many bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    labels = np.sort(np.arange(images) % classes)
    np.save(folder / "train_images.npy", rng.integers(0, 256, (images, side, side, 3), dtype=np.uint8))
    return _finished(folder, labels, "synthetic", (side, 3), classes, num_val, repeats)


def boxed_store(
    folder: Path, *, side: int = 64, classes: int = 3, images: int = 24, num_val: int = 8, channels: int = 1
) -> Store:
    """A store in arrays of bright squares on dim noise, with their boxes; brightness tells the class. The first has none.

    Args:
        folder: made, or reused when empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, made = np.random.default_rng(0), []
    pixels = rng.integers(0, 64, (images, side, side, channels), dtype=np.uint8)
    for at in range(images):
        rows = []
        for label in rng.integers(0, classes, min(at, 1 + at % 3)).tolist():
            width = int(rng.integers(side // 6, side // 2))
            left, top = rng.integers(0, side - width + 1, 2).tolist()
            pixels[at, top : top + width, left : left + width] = 255 - label * (160 // classes)
            rows.append(((left, top, left + width, top + width), label, False))
        made.append(Boxes.make((side, side), rows))
    np.save(folder / "train_images.npy", pixels)
    BoxTable.write(folder, "train", made)
    return _finished(folder, np.zeros(images, np.int64), "squares", (side, channels), classes, num_val)


def _finished(
    folder: Path,
    labels: np.ndarray,
    name: str,
    shape: tuple[int, int],
    classes: int,
    num_val: int,
    repeats: int = 1,
) -> Store:
    """The store of the images in `folder`: with labels, splits, statistics and manifest."""
    side, channels = shape
    np.save(folder / "train_labels.npy", labels)
    splits: dict[str, Any] = make_splits(labels, num_val, 0)
    splits["full_train"] = np.tile(splits["full_train"], repeats)
    np.savez(folder / "splits.npz", **splits)
    moments: dict[str, Any] = {
        "mean": np.full(channels, _MEAN, np.float32),
        "std": np.full(channels, _STD, np.float32),
        "pixel_mean": np.full((side, side, channels), _MEAN, np.float32),
    }
    statistics = {f"{split}_{key}": value for split in SPLITS for key, value in moments.items()}
    np.savez(folder / "statistics.npz", **statistics)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(folder.iterdir())}
    manifest = Manifest.make(
        name=name,
        format="arrays",
        classes=tuple(f"class {k}" for k in range(classes)),
        counts={"train": len(labels), "test": 0},
        channels=channels,
        height=side,
        width=side,
        image_size=side,
        split={"num_val": num_val, "seed": 0, "published": True},  # whatever data set it stands for
        skipped=(),
        files=files,
    )
    write_json(folder / MANIFEST, asdict(manifest))
    return open_store(folder)


def paper_config(store: Store, runs: Path, depth: int = 20) -> Config:
    """The CIFAR recipe of Sec. 4.2 on `store`, all training images, without the drops of the learning rate.

    Args:
        runs: paths.runs, absolute.

    Raises:
        ValueError: a store of JPEGs.
    """
    manifest = store.manifest
    if manifest.format != "arrays":
        raise ValueError(f"{store.path} holds {manifest.format}; give a store of arrays, such as cifar10's")
    size = manifest.image_size
    return Config(
        data=DataConfig(
            name=manifest.name,
            path=str(store.path),
            image_size=size,
            num_val=manifest.split["num_val"],
            split_seed=manifest.split["seed"],
            split="full",
        ),
        model=ModelConfig(family="cifar", depth=depth, residual=True, shortcut="A"),
        recipe=RecipeConfig(augment=AugmentConfig(crop=size)),
        sweep=SweepConfig(space={"seed": [0]}),  # not used
        tracking=TrackingConfig(system_metrics_every_s=0),
        paths=PathsConfig(runs=str(runs), mlruns=str(runs / "mlruns")),
    )


def changed(config: Config, **sections: Mapping[str, Any]) -> Config:
    """`config` with some values replaced and checked again: `changed(config, recipe={"max_steps": 10})`."""
    return replace(config, **{name: replace(getattr(config, name), **values) for name, values in sections.items()})
