"""An ensemble as a registered model of MLflow, with its lineage."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.atomic import write_json
from pipeline.config import AugmentConfig
from pipeline.data.store import ArrayRecords, Statistics, Store
from pipeline.ensemble.members import SPLIT, weights_file
from pipeline.ensemble.predictions import Images
from pipeline.learn.input.augment import mean_of_crops
from pipeline.learn.input.normalization import channel_constants
from pipeline.record import Net
from pipeline.tracking import registry
from pipeline.tracking.location import DATA_TAG, SPLIT_TAG, Location

SERVED = "served.json"
FORM = 3  # of the served model; raised when it changes, so that the same members get a new version
_MODEL = Path(__file__).with_name("model.py")
_NEEDS = ("mlflow", "numpy", "safetensors", "torch")  # what model.py and its imports import


def register(
    location: Location,
    selection: str,
    members: list[Net],
    val_err1: float | None,
    images: Images,
    folder: Path,
    tags: dict[str, str],
) -> dict[str, Any]:
    """Name, version and run id of the registered model of these members: the one there is already, or a new one.

    The model is resnet-ensemble-<data set>; the version gets the alias `champion`.

    Args:
        images: of the validation split; the first becomes the model's example.
        folder: holds the members' weights; served.json is written there.
        tags: of the run: lineage.
    Raises:
        ValueError: members that see crops of different sizes.
    """
    manifest = images.store.manifest
    write_json(folder / SERVED, _description(images.store, members))
    example = _example(images, members)
    name = f"resnet-ensemble-{manifest.name}"
    lineage = {
        **tags,
        DATA_TAG: manifest.content_hash,
        SPLIT_TAG: " and ".join(sorted({net.split for net in members})),
        "pipeline.selection": selection,
        "pipeline.members": json.dumps([member.run_id for member in members]),
        "pipeline.member_checkpoints": json.dumps([member.checkpoint_sha256 for member in members]),
        "pipeline.member_weights": json.dumps([member.weight for member in members]),
    }
    run_name = f"{manifest.name}-ensemble{len(members)}-{selection}"
    metrics = {} if val_err1 is None else {"val/err1": val_err1}
    run_id = registry.ensemble_run(location, manifest.name, ensemble_key(members), run_name, lineage, metrics)
    number = registry.champion(location, name, run_id)
    if number is None:
        artifacts = {member.checkpoint_sha256: folder / weights_file(member) for member in members}
        artifacts["ensemble"] = folder / SERVED
        requirements = [f"{package}=={version(package).split('+')[0]}" for package in _NEEDS]
        number = registry.register(
            location, name, run_id, _MODEL, artifacts, example, len(manifest.classes), requirements
        )
    return {"name": name, "version": number, "run_id": run_id}


def ensemble_key(members: list[Net]) -> str:
    """12 hex digits: the members' weights, temperatures and what they weigh in the average, in whatever order they come."""
    facts = [FORM, sorted((member.checkpoint_sha256, member.weight, member.temperature) for member in members)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def _description(store: Store, members: list[Net]) -> dict[str, Any]:
    """What `model.EnsembleModel` reads; means have the shape (H, W, C) or (1, 1, C), floats survive JSON exactly."""
    statistics = {}
    for facts in members:
        kept = store.statistics(facts.split)
        pixel = facts.normalize == "per_pixel_mean"
        mean, std = channel_constants("channel" if pixel else facts.normalize, kept)
        mean = _pixel_mean(store, kept, facts.augment) if pixel else mean[None, None]
        std = np.ones_like(std) if pixel else std
        statistics[_seen_through(facts)] = {"mean": mean.tolist(), "std": std.tolist()}
    return {
        "data": store.manifest.name,
        "content_hash": store.manifest.content_hash,
        "classes": list(store.manifest.classes),
        "statistics": statistics,
        "members": [
            {
                "checkpoint_sha256": member.checkpoint_sha256,
                "weight": member.weight,
                "temperature": member.temperature,
                "model": {**vars(member.model), "num_classes": member.num_classes, "in_channels": member.in_channels},
                "statistics": _seen_through(member),
            }
            for member in members
        ],
    }


def _seen_through(record: Net) -> str:
    """Names a normalisation; the same one has other values where it was taken of other images."""
    return record.normalize if record.split == SPLIT else f"{record.normalize} of {record.split}"


def _pixel_mean(store: Store, statistics: Statistics, augment: AugmentConfig) -> np.ndarray:
    """(H, W, C) of what the served nets see: a whole small image, or a crop."""
    assert statistics.pixel_mean is not None  # a net was trained with it
    if store.manifest.format == "arrays":
        return statistics.pixel_mean
    mean = mean_of_crops(torch.from_numpy(statistics.pixel_mean), augment.test_side, augment.crop)
    return mean.permute(1, 2, 0).numpy()


def _example(images: Images, members: list[Net]) -> np.ndarray:
    """(1, H, W, C) uint8: the first image as every member sees it before normalisation."""
    views = sorted({(facts.augment.crop, facts.augment.test_side) for facts in members})
    if isinstance(images.records, ArrayRecords):
        return np.array(images.records.images[images.indices[:1]])
    if len(views) > 1:
        raise ValueError(
            f"the members see different views of an image, (recipe.augment.crop, test_side) = {views}; a served model "
            "has one input: train them with the same, or take the others out of MLflow's experiment"
        )
    pixels, _ = images.batches(members[0], workers=1).fetch(images.indices[:1], None)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())
