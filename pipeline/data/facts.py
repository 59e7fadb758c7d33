"""What other parts ask of a store's manifest. `store.py` itself is hashed into the keys of all runs, so that it changes little."""

from __future__ import annotations

from pipeline.config import ModelConfig
from pipeline.data.store import Manifest
from pipeline.errors import PipelineError


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
