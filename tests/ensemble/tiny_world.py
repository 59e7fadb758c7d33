"""Small but real parts: a store, an MLflow database, runs with weights and journals in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.atomic import sha256, write_json
from pipeline.config import AugmentConfig, EnsembleConfig, ModelConfig, RecipeConfig
from pipeline.data.shards import ShardWriter, as_jpeg
from pipeline.data.splits import array_statistics, make_splits
from pipeline.data.store import Manifest, Store, open_store
from pipeline.ensemble.build import Ensemble
from pipeline.ensemble.forward import average
from pipeline.ensemble.members import Source
from pipeline.ensemble.predictions import validation_images
from pipeline.learn.models import build_model
from pipeline.record import Net
from pipeline.run.inputs import input_of
from pipeline.run.served import queue_model
from pipeline.run.weights import BEST, save_weights, snapshot_name
from pipeline.tracking import location as tracking
from pipeline.tracking.journal import Journal
from pipeline.tracking.shipper import ship

CLASSES = tuple("abcdefg")
NUM_TRAIN, NUM_VAL, NUM_TEST = 70, 21, 28
SIDE = 8


def write_store(folder: Path, form: str = "arrays", name: str = "tiny") -> Store:
    """Random images of 8x8x1 (arrays) or of about 20x16 (shards, RGB)."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    channels = 1 if form == "arrays" else 3
    for split, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        labels = np.sort(np.arange(count) % len(CLASSES))
        np.save(folder / f"{split}_labels.npy", labels)
        if form == "arrays":
            np.save(folder / f"{split}_images.npy", rng.integers(0, 256, (count, SIDE, SIDE, 1), dtype=np.uint8))
        else:
            with ShardWriter(folder, split) as writer:
                for i, label in enumerate(labels):
                    image = Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8))
                    writer.append(as_jpeg(b"", image, 16), int(label), f"{label}/{i}")
        if split == "train":
            np.savez(folder / "splits.npz", **make_splits(labels, NUM_VAL, 0))
    statistics = {}
    with np.load(folder / "splits.npz") as splits:
        for split in ("holdout", "full"):
            if form == "arrays":
                values = array_statistics(np.load(folder / "train_images.npy"), splits[f"{split}_train"])
            else:
                values = {"mean": np.float32([0.5, 0.4, 0.3]), "std": np.float32([0.2, 0.25, 0.3])}
                values["pixel_mean"] = np.full((SIDE, SIDE, 3), 0.4, np.float32)
            statistics |= {f"{split}_{key}": value for key, value in values.items()}
    np.savez(folder / "statistics.npz", **statistics)
    manifest = Manifest.make(
        name=name,
        format=form,
        classes=CLASSES,
        counts={"train": NUM_TRAIN, "test": NUM_TEST},
        channels=channels,
        height=SIDE if form == "arrays" else 0,
        width=SIDE if form == "arrays" else 0,
        image_size=SIDE if form == "arrays" else 16,
        split={"num_val": NUM_VAL, "seed": 0},
        skipped=(),
        files={path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(folder.iterdir())},
    )
    write_json(folder / "manifest.json", asdict(manifest))
    return open_store(folder)


@dataclass
class World:
    root: Path
    store: Store
    location: tracking.Location
    normalize: str = "channel"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def source(self) -> Source:
        return Source(store=self.store, location=self.location, runs=self.runs, device=torch.device("cpu"), workers=1)

    def add_run(
        self,
        error: float,
        depth: int = 8,
        *,
        residual: bool = True,
        seed: int = 0,
        split: str = "holdout",
        data: str = "",
        kind: str = "train",
        status: str = "FINISHED",
        stopped: bool = False,
        crop: int = SIDE,
        normalize: str = "",
        snapshots: int = 0,
        model: bool = False,
        code: str = "now",
        mixup: float = 0.0,
    ) -> str:
        """Key of a new run with an untrained net and a made-up validation error, shipped to MLflow."""
        manifest = self.store.manifest
        key = f"{len(list(self.runs.glob('*'))):04d}d{depth}s{seed}"
        folder = self.runs / key
        arrays = manifest.format == "arrays"
        kind_of_crop = "pad_crop" if arrays else "random_resized_crop"
        augment = AugmentConfig(kind=kind_of_crop, crop=crop, padding=1, flip=False, test_side=16, mixup=mixup)  # type: ignore[arg-type]
        net = Net(
            key=key,
            code=code,
            model=ModelConfig(depth=depth, residual=residual, shortcut="A"),
            num_classes=len(manifest.classes),
            in_channels=manifest.channels,
            normalize=normalize or self.normalize,
            augment=augment,
            params=1000 * depth,
            data=data or manifest.content_hash,
            split=split,
            recipe=RecipeConfig(max_steps=100, lr=0.1, augment=augment),
            seed=seed,
            steps=100,
            complete=not stopped,
            val_err1=None if split == "full" else error,
            val_err5=None if split == "full" else error / 5,
        )
        torch.manual_seed(seed)
        save_weights(_net(net), folder / BEST, net, input=input_of(self.store, net))
        journal = Journal(folder)
        tags = {
            tracking.KEY_TAG: key,
            tracking.KIND_TAG: kind,
            tracking.DATA_TAG: data or manifest.content_hash,
            tracking.SPLIT_TAG: split,
        }
        journal.begin(f"{net.name}, seed {seed}", manifest.name, {}, tags)
        journal.metrics(100, {"best_val_err1": error, "best_val_err5": error / 5})
        journal.artifact(folder / BEST, "checkpoints")
        for step in range(1, snapshots + 1):
            torch.manual_seed(100 * step + seed)
            save_weights(_net(net), folder / snapshot_name(step), net, input=input_of(self.store, net))
            journal.artifact(folder / snapshot_name(step), "checkpoints")
        state = "stopped" if stopped else "finished"
        left = tuple((step, sha256(folder / snapshot_name(step))) for step in range(1, snapshots + 1))
        net = replace(net, checkpoint_sha256=sha256(folder / BEST), snapshots=left)
        if model:
            queue_model(journal, folder / BEST, net, input_of(self.store, net), manifest)
        journal.tags({tracking.NET_TAG: net.to_tag(), tracking.STATUS_TAG: state})
        if status:
            journal.end(status)
        ship(folder, self.location)
        return key


def _net(record: Net) -> torch.nn.Module:
    """An untrained net whose outputs differ from image to image: batch norm has real statistics."""
    net = build_model(record.model, record.num_classes, record.in_channels)
    with torch.no_grad():
        net.train()
        net(torch.randn(64, record.in_channels, SIDE, SIDE))
        net.fc.weight.mul_(20)
    return net


def choose(selection: str, size: int = 6, temperature: str = "none", members: Sequence[str] = ()) -> EnsembleConfig:
    return EnsembleConfig(selection=selection, size=size, temperature=temperature, members=list(members))  # type: ignore[arg-type]


def val_probabilities(world: World, ensemble: Ensemble) -> list[np.ndarray]:
    """(N, K) of each member, as the ensemble's folder has them."""
    folder = world.root / "ensemble" / "val_probabilities"
    return [np.load(folder / f"{member.checkpoint_sha256}.npy") for member in ensemble.members]


def val_average(world: World, ensemble: Ensemble) -> np.ndarray:
    return average(val_probabilities(world, ensemble), [member.weight for member in ensemble.members])


def val_pixels(world: World) -> np.ndarray:
    """(N, H, W, C) uint8 validation images of a world of arrays."""
    images = validation_images(world.store)
    return np.array(images.records.images[images.indices])  # type: ignore[union-attr]


def file_names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
