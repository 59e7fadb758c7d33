"""A net made elsewhere, put beside the runs of this project: mapped, validated, kept in a folder and in MLflow."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from pipeline.atomic import sha256
from pipeline.config import Config
from pipeline.data.store import Store, open_store
from pipeline.ensemble.predictions import FOLDER, probabilities, validation_images
from pipeline.evaluation.errors import top_k_error
from pipeline.learn.models import build_model, net_name
from pipeline.learn.training.precision import uses_cuda
from pipeline.run.checkpoint import BEST, FolderLock, described, save_weights
from pipeline.run.start import Start, starting_point
from pipeline.tracking.journal import Journal
from pipeline.tracking.shipper import ship
from pipeline.tracking.store import (
    ADOPTED,
    CHECKPOINT_TAG,
    DATA_TAG,
    KEY_TAG,
    KIND_TAG,
    SOURCE_TAG,
    SPLIT_TAG,
    STATUS_TAG,
    Location,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adopted:
    """A run. Errors are fractions of the validation images, whether the net has seen them or not."""

    key: str
    name: str
    val_err1: float
    val_err5: float
    num_classes: int


def adopt(config: Config, store: Path, runs: Path, location: Location, lineage: dict[str, str]) -> Adopted:
    """The weights of start.weights as a run of kind "adopted" for config.model, seen through recipe.normalize.

    The same weights with the same configuration are the same run. With data.split=full the validation error is not told
    to MLflow: weights that have seen those images must not be chosen by them.

    Raises:
        FileNotFoundError, ValueError: no weights, weights that cannot be read, or that do not fit.
    """
    start = starting_point(config.start.weights, runs, location)
    if start is None:
        raise ValueError("adopt needs weights: start.weights=FILE, run:<key> or torchvision:<name>")
    images = open_store(store)
    start.check(config, images.manifest.content_hash, as_they_are=True)
    facts = _facts(config, images, start)
    model = config.model
    net = net_name(model.family, model.depth, model.residual, model.shortcut, model.stride_on)
    made_of = Path(start.source).name.split(":")[-1]
    key, name = facts["key"], f"{config.data.name}-{net}-adopted-{made_of}"
    folder = runs / key
    with FolderLock(folder):
        built = build_model(**facts["model"])
        start.load_into(built, head=True)
        save_weights(built, folder / BEST, facts)
        err1, err5 = _validated(config, images, folder / BEST, runs)
        journal = Journal(folder)
        tags = {
            KEY_TAG: key,
            KIND_TAG: ADOPTED,
            DATA_TAG: images.manifest.content_hash,
            SPLIT_TAG: config.data.split,
            SOURCE_TAG: f"{made_of} ({start.fingerprint})",
        }
        params = {f"model.{name}": value for name, value in asdict(model).items()}
        params |= {"data.name": config.data.name, "data.split": config.data.split}
        journal.begin(
            name, config.data.name, {**params, "recipe.normalize": config.recipe.normalize}, {**lineage, **tags}
        )
        if config.data.split == "holdout":
            journal.metrics(0, {"best/err1": err1, "best/err5": err5})
        journal.artifact(folder / BEST, "checkpoints")
        journal.tags({CHECKPOINT_TAG: sha256(folder / BEST), STATUS_TAG: "finished"})
        journal.end("FINISHED")
    try:
        ship(folder, location)
    except Exception as error:  # whatever MLflow raises; the journal keeps the run
        log.warning("MLflow does not have it yet (%s); `pipeline sync` ships it", error)
    return Adopted(key, name, err1, err5, len(images.manifest.classes))


def _facts(config: Config, images: Store, start: Start) -> dict:
    """What the weights are saved with, as training does."""
    manifest, mean = images.manifest, images.statistics(config.data.split).mean
    facts = described(config, manifest.content_hash, len(manifest.classes), len(mean))
    # What only training does with the configuration makes no other net.
    model = {key: value for key, value in facts["model"].items() if key != "init_fan"}
    seen = [facts[key] for key in ("normalize", "split", "data")] + [
        facts["augment"][key] for key in ("crop", "test_side")
    ]
    identity = json.dumps([ADOPTED, model, seen, start.fingerprint], sort_keys=True)
    return {**facts, "key": hashlib.sha256(identity.encode()).hexdigest()[:12], "source": start.fingerprint}


def _validated(config: Config, store: Store, weights: Path, runs: Path) -> tuple[float, float]:
    device = torch.device("cuda" if uses_cuda(config.trainer.accelerator) else "cpu")
    images = validation_images(store)
    said = probabilities(weights, images, runs / FOLDER, device, config.data.workers)
    return top_k_error(said, images.labels, 1), top_k_error(said, images.labels, 5)
