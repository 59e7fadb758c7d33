"""What other parts ask of a store's manifest. `store.py` itself is hashed into the keys of all runs, so that it changes little."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.atomic import read_json
from pipeline.config import DataConfig, ModelConfig
from pipeline.data.store import Manifest, Store
from pipeline.errors import PipelineError, hint

# Keys of data.* that decide a store, as tests/stages/test_pretrain.py makes sure. A mirror holds the same files elsewhere.
DECIDING = (
    *("source", "path", "layout", "labels", "format", "image_size"),
    *("num_test", "num_val", "split_seed", "skip_corrupt"),
)


def num_training(manifest: Manifest, split: str) -> int:
    """Training images of data.split."""
    return manifest.counts["train"] - (manifest.split["num_val"] if split == "holdout" else 0)


def boxed(manifest: Manifest) -> bool:
    """Whether objects have boxes, and classes are theirs; labels of images then mean nothing."""
    return "train_boxes.npy" in manifest.files


def require_task(manifest: Manifest, model: ModelConfig) -> None:
    """Raises PipelineError if the images have boxes and the net learns labels, or the other way round."""
    if boxed(manifest) and not model.detects:
        raise PipelineError(
            f"{manifest.name} has boxes of objects, and {model.name} learns one label an image; choose a detector "
            "(override: model=faster_rcnn model.backbone=resnet20) or labelled images (override: data=digits)"
        )
    if model.detects and not boxed(manifest):
        raise PipelineError(
            f"{manifest.name} has labels of images, and {model.name} learns boxes of objects; choose a net that classifies "
            "(override: model=cifar) or images with boxes (override: data=digit_scenes)"
        )


def made_file(store: Path) -> Path:
    """Beside a store: the `values` of DECIDING that preprocess made it from, and its `content_hash`."""
    return store.with_name(f"{store.name}.made.json")


def require_settings(store: Store, data: DataConfig) -> None:
    """Raises PipelineError if preprocess makes another store of `data`.

    Copies of a store have only their manifest, which does not tell its source, path, layout and labels.
    """
    manifest, asked = store.manifest, {key: getattr(data, key) for key in DECIDING}
    there: dict[str, object] = {"format": manifest.format, "image_size": manifest.image_size}
    if "published" not in manifest.split:
        unusable = sum(name.startswith("test/") for name in manifest.skipped)
        drawn = {"num_val": manifest.split["num_val"], "split_seed": manifest.split["seed"]}
        there |= {**drawn, "num_test": manifest.counts["test"] + unusable}
    if manifest.skipped:
        there["skip_corrupt"] = True
    file = made_file(store.path)
    made = read_json(file, f"run {hint('preprocess')}") if file.exists() else {}
    values = {"num_val": 0, "num_test": 0}  # each a fifth, or as published
    if made.get("content_hash") == manifest.content_hash:
        values = made["values"]
        there |= {key: values[key] for key in ("source", "layout", "labels")}
        root = store.path.resolve().parents[2]  # relative paths start there
        if os.path.realpath(root / values["path"]) != os.path.realpath(root / str(asked["path"])):
            there["path"] = values["path"]
    other = [key for key in there if asked[key] not in (there[key], values.get(key))]
    if other:
        given, stored = (
            " and ".join(f"data.{key}={of[key] or repr(of[key])}" for key in other) for of in (asked, there)
        )
        raise PipelineError(
            f"{given}, but the store of {manifest.name} was made with {stored}; run {hint('preprocess')}, or give what it was made with"
        )
