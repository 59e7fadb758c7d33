"""A net made elsewhere becomes a run of this project: its weights are renamed, validated, and tracked in MLflow."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic

from pipeline.atomic import sha256
from pipeline.config import Config
from pipeline.data.facts import require_task
from pipeline.data.store import Store
from pipeline.ensemble.members import Source
from pipeline.ensemble.predictions import validation_images
from pipeline.errors import PipelineError, hint
from pipeline.evaluation.errors import top_k_error
from pipeline.learn.models import build_model
from pipeline.record import Net
from pipeline.run.claim import claimed
from pipeline.run.inputs import input_of
from pipeline.run.run import Run
from pipeline.run.served import queue_model
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
)
from pipeline.tracking.shipper import ship

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adopted:
    """An adopted net as a run. The errors are those on the validation images, which the net may have trained on."""

    net: Net
    name: str
    val_err1: float
    val_err5: float


def adopt(config: Config, source: Source, lineage: dict[str, str]) -> Adopted:
    """Makes the weights of start.weights a run of kind "adopted", for config.model and pixels as recipe.normalize says.

    The same weights with the same configuration are the same run. With data.split=full MLflow gets no validation error,
    so that weights trained on the validation images are never chosen by them.

    Raises:
        PipelineError: no weights, or weights that cannot be read or do not fit.
    """
    began = monotonic()
    start = starting_point(config.start.weights, source.runs, source.location, config.model, config.seed)
    if start is None:
        raise PipelineError(
            "adopt needs weights: start.weights=FILE, run:<key>, published:<name> or torchvision:<name>"
        )
    require_task(source.store.manifest, config.model)
    start.check(config, source.store.manifest.content_hash, frozen=True, classes=source.store.manifest.classes)
    net = _record(config, source.store, start)
    folder = source.runs / net.key
    with claimed(folder):
        built = build_model(config.model, net.num_classes, net.in_channels)
        start.load_into(built, head=True)
        save_weights(built, folder / BEST, net, input=input_of(source.store, net))
        images = validation_images(source.store)
        probabilities = source.probabilities(folder / BEST, images)
        err1, err5 = (top_k_error(probabilities, images.labels, k) for k in (1, 5))
        net = replace(net, checkpoint_sha256=sha256(folder / BEST))
        if config.data.split == "holdout":
            net = replace(net, val_err1=err1, val_err5=err5)
        origin = Path(start.source).name.split(":")[-1]
        made = Adopted(net, f"{net.name}, adopted from {origin}", err1, err5)
        _write_journal(config, source, made, {**lineage, SOURCE_TAG: f"{origin} ({start.fingerprint})"}, folder, began)
    try:
        ship(folder, source.location)
    except Exception as error:  # whatever MLflow raises; the journal keeps the run
        log.warning("MLflow does not have the run yet (%s); %s ships it", error, hint("sync"))
    return made


def _write_journal(
    config: Config, source: Source, made: Adopted, tags: dict[str, str], folder: Path, began: float
) -> None:
    net = made.net
    tags |= {KEY_TAG: net.key, KIND_TAG: ADOPTED, DATA_TAG: net.data, SPLIT_TAG: net.split, NET_TAG: net.to_tag()}
    params = {f"model.{key}": value for key, value in asdict(config.model).items()}
    params |= {"data.name": config.data.name, "data.split": net.split, "recipe.normalize": net.normalize}
    journal = Journal(folder)
    journal.begin(made.name, config.data.name, params, tags, began)
    if net.val_err1 is not None:
        journal.metrics(0, {"best_val_err1": made.val_err1, "best_val_err5": made.val_err5})
    journal.artifact(folder / BEST, "checkpoints")
    queue_model(journal, folder / BEST, net, input_of(source.store, net), source.store.manifest)
    journal.tags({CHECKPOINT_TAG: net.checkpoint_sha256, STATUS_TAG: "finished"})
    journal.end("FINISHED")


def _record(config: Config, store: Store, start: Start) -> Net:
    """The record that the weights are saved with. Its key hashes what decides predictions, not how nets are trained."""
    run = Run(config=config, manifest=store.manifest, precision="fp32", start=start, location=None, key="")
    net = replace(run.net, code="", recipe=None, seed=None, start="", started="", callbacks="", complete=True)
    model = {key: value for key, value in asdict(config.model).items() if key not in ("init_fan", "norm_scale")}
    view = [net.normalize, net.split, net.data, net.augment.crop, net.augment.test_side]
    identity = json.dumps([ADOPTED, model, net.num_classes, net.in_channels, view, start.fingerprint], sort_keys=True)
    return replace(net, key=hashlib.sha256(identity.encode()).hexdigest()[:12])
