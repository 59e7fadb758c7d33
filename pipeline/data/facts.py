"""What other parts ask of a store's manifest. `store.py` itself is hashed into the keys of all runs, so that it changes little."""

from __future__ import annotations

from pipeline.data.store import Manifest
from pipeline.errors import PipelineError


def num_training(manifest: Manifest, split: str) -> int:
    """Training images of data.split."""
    return manifest.counts["train"] - (manifest.split["num_val"] if split == "holdout" else 0)


def boxed(manifest: Manifest) -> bool:
    """Whether objects have boxes, and classes are theirs; labels of images then mean nothing."""
    return "train_boxes.npy" in manifest.files


def require_labels(manifest: Manifest) -> None:
    """Raises PipelineError if its images have boxes in place of labels."""
    if boxed(manifest):
        raise PipelineError(
            f"{manifest.name} has boxes of objects, and the nets here learn one label an image; choose labelled images "
            "(override: data=digits)"
        )
