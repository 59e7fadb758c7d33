"""A store of small scenes, and detectors in the folders of their runs."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.atomic import sha256, write_json
from pipeline.config import AugmentConfig, ModelConfig, RecipeConfig
from pipeline.data.boxes import Boxes, BoxTable
from pipeline.data.splits import array_statistics, make_splits
from pipeline.data.store import Manifest, Store, open_store
from pipeline.learn.models import build_model
from pipeline.record import Net
from pipeline.run.inputs import input_of
from pipeline.run.served import queue_model
from pipeline.run.weights import BEST, save_weights
from pipeline.tracking import location as tracking
from pipeline.tracking.journal import Journal
from pipeline.tracking.shipper import ship

SIDE, NUM_TRAIN, NUM_VAL, NUM_TEST = 40, 20, 6, 8
CLASSES = ("tall", "wide")
AUGMENT = AugmentConfig(kind="whole", crop=SIDE, flip=False)
RECIPE = RecipeConfig(augment=AUGMENT, batch_size=4, max_steps=4, normalize="half", rois=16)


def write_store(folder: Path, name: str = "scenes", channels: int = 1) -> Store:
    """Dark images of 40x40 pixels, each with a bright bar, tall or wide."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        images, boxes = np.zeros((count, SIDE, SIDE, channels), np.uint8), []
        for image in images:
            label, left, top = (int(value) for value in rng.integers(0, (2, 18, 18)))
            width, height = ((8, 20), (20, 8))[label]
            image[top : top + height, left : left + width] = 200
            boxes.append(Boxes.make((SIDE, SIDE), [((left, top, left + width, top + height), label, False)]))
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_labels.npy", np.zeros(count, np.int64))
        BoxTable.write(folder, split, boxes)
    splits = make_splits(np.zeros(NUM_TRAIN, np.int64), NUM_VAL, 0)
    np.savez(folder / "splits.npz", **splits)
    pixels = np.load(folder / "train_images.npy")
    measured = {
        f"{split}_{key}": value
        for split in ("holdout", "full")
        for key, value in array_statistics(pixels, splits[f"{split}_train"]).items()
    }
    np.savez(folder / "statistics.npz", **measured)
    manifest = Manifest.make(
        name=name,
        format="arrays",
        classes=CLASSES,
        counts={"train": NUM_TRAIN, "test": NUM_TEST},
        channels=channels,
        height=SIDE,
        width=SIDE,
        image_size=SIDE,
        split={"num_val": NUM_VAL, "seed": 0},
        skipped=(),
        files={path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(folder.iterdir())},
    )
    write_json(folder / "manifest.json", asdict(manifest))
    return open_store(folder)


def model(backbone: str = "resnet8") -> ModelConfig:
    residual = backbone.startswith("resnet")
    return ModelConfig(family="faster_rcnn", backbone=backbone, anchor=4, depth=8, residual=residual, shortcut="A")


def save_detector(
    runs: Path,
    store: Store,
    seed: int,
    backbone: str = "resnet8",
    val_err1: float = 0.5,
    augment: AugmentConfig = AUGMENT,
) -> Net:
    """A detector of random weights, sure of something, as a finished run; its record has the file's hash."""
    torch.manual_seed(seed)
    net = build_model(model(backbone), len(CLASSES), store.manifest.channels)
    torch.nn.init.normal_(net.roi_heads.box_predictor.cls_score.weight, std=0.5)
    record = Net(
        key=f"{seed:012x}",
        model=model(backbone),
        num_classes=len(CLASSES),
        in_channels=store.manifest.channels,
        normalize="half",
        augment=augment,
        data=store.manifest.content_hash,
        split="holdout",
        recipe=RECIPE,
        seed=seed,
        steps=4,
        step=4,
        complete=True,
        val_err1=val_err1,
        val_err5=val_err1 / 2,
    )
    path = runs / record.key / BEST
    path.parent.mkdir(parents=True)
    save_weights(net, path, record, input=input_of(store, record))
    return replace(record, checkpoint_sha256=sha256(path))


def track_detector(runs: Path, store: Store, location: tracking.Location, seed: int, val_err1: float = 0.5) -> Net:
    """`save_detector`, shipped to MLflow with its model as training does it."""
    net, manifest = save_detector(runs, store, seed, val_err1=val_err1), store.manifest
    weights = runs / net.key / BEST
    journal = Journal(weights.parent)
    tags = {tracking.KEY_TAG: net.key, tracking.KIND_TAG: "train", tracking.DATA_TAG: net.data}
    journal.begin(net.name, manifest.name, {}, {**tags, tracking.SPLIT_TAG: net.split})
    journal.metrics(net.steps, {"best_val_err1": val_err1, "best_val_err5": val_err1 / 2})
    journal.artifact(weights, "checkpoints")
    queue_model(journal, weights, net, input_of(store, net), manifest)
    journal.tags({tracking.NET_TAG: net.to_tag(), tracking.STATUS_TAG: "finished"})
    journal.end("FINISHED")
    ship(weights.parent, location)
    return net
