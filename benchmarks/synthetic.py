"""A data store of seeded random images, so that measuring needs no data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.atomic import sha256, write_json
from pipeline.data.splits import SPLITS, make_splits
from pipeline.data.store import MANIFEST, Manifest, Store, open_store

# Mean and standard deviation of uniform bytes in units of [0, 1]; measuring them would take longer than writing them.
_MEAN, _STD = 0.5, 0.2898


def synthetic_store(
    folder: Path, *, side: int = 32, classes: int = 10, images: int = 50_000, num_val: int = 5_000, repeats: int = 1
) -> Store:
    """A store of RGB noise in arrays, CIFAR-10's size unless told otherwise. There are no test images.

    Args:
        folder: made, or reused when empty.
        repeats: how often the `full` split names each image, so that an epoch can be long without as many bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    labels = np.sort(np.arange(images) % classes)
    np.save(folder / "train_images.npy", rng.integers(0, 256, (images, side, side, 3), dtype=np.uint8))
    np.save(folder / "train_labels.npy", labels)
    splits: dict[str, Any] = make_splits(labels, num_val, 0)
    splits["full_train"] = np.tile(splits["full_train"], repeats)
    np.savez(folder / "splits.npz", **splits)
    moments: dict[str, Any] = {
        "mean": np.full(3, _MEAN, np.float32),
        "std": np.full(3, _STD, np.float32),
        "pixel_mean": np.full((side, side, 3), _MEAN, np.float32),
    }
    np.savez(
        folder / "statistics.npz", **{f"{split}_{key}": value for split in SPLITS for key, value in moments.items()}
    )
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(folder.iterdir())}
    manifest = Manifest.make(
        name="synthetic",
        format="arrays",
        classes=tuple(f"class {k}" for k in range(classes)),
        counts={"train": images, "test": 0},
        channels=3,
        height=side,
        width=side,
        image_size=side,
        split={"num_val": num_val, "seed": 0},
        skipped=(),
        files=files,
    )
    write_json(folder / MANIFEST, asdict(manifest))
    return open_store(folder)
