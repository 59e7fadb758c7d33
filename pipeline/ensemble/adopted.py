"""A net made elsewhere, put beside the runs of this project: mapped, validated, kept in a folder and in MLflow."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from pipeline.atomic import sha256
from pipeline.config import Config
from pipeline.data.store import Store, open_store
from pipeline.ensemble.predictions import FOLDER, probabilities, validation_images
from pipeline.evaluation.errors import top_k_error
from pipeline.learn.models import build_model
from pipeline.learn.training.precision import uses_cuda
from pipeline.record import Net
from pipeline.run.checkpoint import FolderLock
from pipeline.run.run import Run
from pipeline.run.start import Start, starting_point
from pipeline.run.weights import BEST, save_weights
from pipeline.tracking.journal import Journal
from pipeline.tracking.location import (
    ADOPTED,
    CHECKPOINT_TAG,
    DATA_TAG,
    KEY_TAG,
    KIND_TAG,
    NET_TAG,
    SOURCE_TAG,
    SPLIT_TAG,
    STATUS_TAG,
    Location,
)
from pipeline.tracking.shipper import ship

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
    net = _record(config, images, start)
    origin = Path(start.source).name.split(":")[-1]
    key, name = net.key, f"{net.name}, adopted from {origin}"
    folder = runs / key
    with FolderLock(folder):
        built = build_model(**vars(config.model), num_classes=net.num_classes, in_channels=net.in_channels)
        start.load_into(built, head=True)
        save_weights(built, folder / BEST, net)
        err1, err5 = _validated(config, images, folder / BEST, runs)
        net = replace(net, checkpoint_sha256=sha256(folder / BEST))
        if config.data.split == "holdout":
            net = replace(net, val_err1=err1, val_err5=err5)
        journal = Journal(folder)
        tags = {
            KEY_TAG: key,
            KIND_TAG: ADOPTED,
            DATA_TAG: net.data,
            SPLIT_TAG: net.split,
            SOURCE_TAG: f"{origin} ({start.fingerprint})",
            NET_TAG: net.to_tag(),
        }
        params = {f"model.{name}": value for name, value in asdict(config.model).items()}
        params |= {"data.name": config.data.name, "data.split": config.data.split}
        journal.begin(
            name, config.data.name, {**params, "recipe.normalize": config.recipe.normalize}, {**lineage, **tags}
        )
        if config.data.split == "holdout":
            journal.metrics(0, {"best/err1": err1, "best/err5": err5})
        journal.artifact(folder / BEST, "checkpoints")
        journal.tags({CHECKPOINT_TAG: net.checkpoint_sha256, STATUS_TAG: "finished"})
        journal.end("FINISHED")
    try:
        ship(folder, location)
    except Exception as error:  # whatever MLflow raises; the journal keeps the run
        log.warning("MLflow does not have it yet (%s); `pipeline sync` ships it", error)
    return Adopted(key, name, err1, err5, len(images.manifest.classes))


def _record(config: Config, images: Store, start: Start) -> Net:
    """The record that the weights are saved with."""
    run = Run(
        config=config,
        store=images.path,
        manifest=images.manifest,
        precision="fp32",
        start=start,
        location=None,
        key="",
    )
    net = replace(run.net, recipe=None, seed=None, start="", complete=True)
    # What only training does with the configuration makes no other net.
    model = {key: value for key, value in asdict(config.model).items() if key != "init_fan"}
    shown = [net.normalize, net.split, net.data, net.augment.crop, net.augment.test_side]
    identity = json.dumps([ADOPTED, model, net.num_classes, net.in_channels, shown, start.fingerprint], sort_keys=True)
    return replace(net, key=hashlib.sha256(identity.encode()).hexdigest()[:12])


def _validated(config: Config, store: Store, weights: Path, runs: Path) -> tuple[float, float]:
    device = torch.device("cuda" if uses_cuda(config.trainer.accelerator) else "cpu")
    images = validation_images(store)
    values = probabilities(weights, images, runs / FOLDER, device, config.data.workers)
    return top_k_error(values, images.labels, 1), top_k_error(values, images.labels, 5)
