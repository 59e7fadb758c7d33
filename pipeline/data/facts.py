"""What other parts ask of a store's manifest. `store.py` itself is hashed into the keys of all runs, so that it changes little."""

from __future__ import annotations

from pipeline.config import DataConfig, ModelConfig
from pipeline.data.store import Manifest
from pipeline.errors import PipelineError, hint


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


def require_settings(manifest: Manifest, data: DataConfig) -> None:
    """Raises PipelineError if preprocess makes another store of `data`, as far as the manifest tells."""
    there: dict[str, object] = {"format": manifest.format, "image_size": manifest.image_size}
    if "published" not in manifest.split:
        unusable = sum(name.startswith("test/") for name in manifest.skipped)
        drawn = {"num_val": manifest.split["num_val"], "split_seed": manifest.split["seed"]}
        there |= {**drawn, "num_test": manifest.counts["test"] + unusable}
    asked = {key: getattr(data, key) for key in there}
    # A num_test of 0 stands for a published test set or a fifth.
    other = [key for key in there if asked[key] != there[key] and (key, asked[key]) != ("num_test", 0)]
    if other:
        given, made = (" and ".join(f"data.{key}={values[key]}" for key in other) for values in (asked, there))
        raise PipelineError(
            f"{given}, but the store of {manifest.name} was made with {made}; run {hint('preprocess')}, or give what it was made with"
        )
