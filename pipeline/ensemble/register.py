"""The ensemble as a model in MLflow's registry."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.atomic import write_json
from pipeline.data.store import ArrayRecords, Store
from pipeline.ensemble.members import weights_file
from pipeline.ensemble.predictions import Images
from pipeline.errors import PipelineError
from pipeline.record import Net
from pipeline.run import SERVED
from pipeline.run.inputs import input_of
from pipeline.run.served import description
from pipeline.tracking import models
from pipeline.tracking.location import Location

FORM = 7  # of the served model; raised when it changes, so that the same members get a new version


def register(
    location: Location, run_id: str, members: list[Net], store: Store, example: np.ndarray, folder: Path
) -> dict[str, Any]:
    """Name, version and run id of the registered model: the version that the run has already, or a new one.

    The model is resnet-ensemble-<data set>; the version gets the alias `champion`.

    Args:
        run_id: of the ensemble's run.
        example: (1, H, W, C) uint8, of the model's input.
        folder: holds the members' weights; served.json is written there.
    """
    taken = [(net, input_of(store, net)) for net in members]
    write_json(folder / SERVED, description(store.manifest, taken))
    weights = {net.checkpoint_sha256: folder / weights_file(net) for net in members}
    model = models.Model(served=folder / SERVED, weights=weights, example=example)
    name = model_name(store.manifest.name)
    return {"name": name, "version": models.register(location, name, run_id, model), "run_id": run_id}


def model_name(data: str) -> str:
    """Of the registered ensemble on a data set."""
    return f"resnet-ensemble-{data}"


def ensemble_key(members: list[Net]) -> str:
    """12 hex digits, a hash of the members' checkpoints, weights in the average and temperatures, in any order."""
    facts = [FORM, sorted((net.checkpoint_sha256, net.weight, net.temperature) for net in members)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def example(images: Images, members: list[Net]) -> np.ndarray:
    """(1, H, W, C) uint8: the first image as every member sees it before normalisation.

    Raises:
        PipelineError: members that see crops of different sizes.
    """
    views = sorted({(net.augment.crop, net.augment.test_side) for net in members})
    if isinstance(images.records, ArrayRecords):
        return np.array(images.records.images[images.indices[:1]])
    if len(views) > 1:
        raise PipelineError(
            f"the members take different crops, (recipe.augment.crop, recipe.augment.test_side) = {views}; a served model "
            "takes one kind of input: train them alike, or list members that were (ensemble=listed)"
        )
    pixels, _ = images.batches(members[0], workers=1).fetch(images.indices[:1], None)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())
