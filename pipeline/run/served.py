"""What MLflow's model of a net, or of an ensemble, reads beside the weights: JSON with classes, resizing, normalisation, members.

`pipeline.ensemble.model` is the model of nets that classify, `pipeline.detection.model` that of detectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.atomic import write_json
from pipeline.data.store import Manifest
from pipeline.record import Net
from pipeline.run import SERVED
from pipeline.run.inputs import TENSORS, Input
from pipeline.tracking.journal import Journal

SPLIT = "holdout"  # whose statistics need no name


def description(manifest: Manifest, members: Sequence[tuple[Net, Input]]) -> dict[str, Any]:
    """What `ensemble.carried` reads; means have the shape (H, W, C) or (1, 1, C), floats survive JSON exactly.

    Args:
        members: take images of one kind, and all classify, or all detect.
    """
    first = members[0][1]
    statistics = {_normalization(net): input for net, input in members}
    return {
        "data": manifest.name,
        "content_hash": manifest.content_hash,
        "detects": members[0][0].model.detects,
        "classes": list(first.classes),
        "shape": first.resize.shape,
        "resize": asdict(first.resize),
        "beside": TENSORS,  # what files of weights hold beside the weights
        "statistics": {
            name: {"mean": input.mean.tolist(), "std": input.std.tolist()} for name, input in statistics.items()
        },
        "members": [
            {
                "checkpoint_sha256": net.checkpoint_sha256,
                "weight": 1.0 if net.weight is None else net.weight,
                "temperature": net.temperature,
                "model": vars(net.model),
                "num_classes": net.num_classes,
                "in_channels": net.in_channels,
                "statistics": _normalization(net),
            }
            for net, _ in members
        ],
    }


def queue_model(
    journal: Journal,
    weights: Path,
    net: Net,
    input: Input,
    manifest: Manifest,
    require: Callable[[], object] | None = None,
) -> None:
    """Describes the net beside its weights, and notes in the journal that both are a model for MLflow.

    Args:
        require: raises right before the file is written if that is no longer this attempt's to do.
    """
    served = weights.with_name(SERVED)
    write_json(served, description(manifest, [(net, input)]), require=require)
    journal.model(served, {net.checkpoint_sha256: weights})


def _normalization(net: Net) -> str:
    """Names the statistics that a net's images are normalised with; each split has its own."""
    return net.normalize if net.split == SPLIT else f"{net.normalize} of {net.split}"
