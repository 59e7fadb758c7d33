"""Detections that trained detectors make on a store's images; made once, then cached beside the runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pipeline.atomic import read_array, sha256, write_array
from pipeline.data.boxes import Boxes, boxes_of
from pipeline.data.store import ArrayRecords, ShardRecords, Store
from pipeline.detection.joint import BASELINE, JointDetector, Manner
from pipeline.ensemble.predictions import hash_of, net_of_store
from pipeline.errors import PipelineError
from pipeline.evaluation.detection import CocoMatches, Detections, VocMatches
from pipeline.learn.input.loader import EvalLoader
from pipeline.learn.input.scenes import SceneBatches, detections
from pipeline.learn.models.detectors import Detector
from pipeline.learn.training.precision import float32_products
from pipeline.progress import progress
from pipeline.record import Net
from pipeline.run.key import code_version

FOLDER = "detections"  # below paths.runs
BATCH = 8  # images in a forward pass
# The code that decides the detections beside the training code.
_CODE = ("detection/detect.py", "detection/joint.py", "detection/scales.py", "run/weights.py")
_DETECTION = np.dtype([("image", "<i8"), ("corners", "<f4", 4), ("score", "<f4"), ("label", "<i4")])


@dataclass(frozen=True)
class Scenes:
    """The images that select (val) or test, in the store's order, with the boxes of their objects."""

    which: Literal["val", "test"]
    store: Store
    records: ArrayRecords | ShardRecords
    indices: np.ndarray  # (N,) int64, into records

    @cached_property
    def truth(self) -> list[Boxes]:
        table = boxes_of(self.store, self._split)
        return [table[index] for index in self.indices.tolist()]

    @property
    def _split(self) -> str:
        return "test" if self.which == "test" else "train"

    def batches(self, net_split: str, augment: object, normalize: str) -> SceneBatches:
        boxes, statistics = boxes_of(self.store, self._split), self.store.statistics(net_split)
        return SceneBatches(self.records, boxes, statistics, augment, normalize)  # type: ignore[arg-type]

    def matches(self, detections: Sequence[Detections]) -> CocoMatches:
        return CocoMatches(self.truth, detections, len(self.store.manifest.classes))

    def voc_matches(self, detections: Sequence[Detections]) -> dict[str, VocMatches]:
        """By the points of the curve that mAP is the mean of."""
        classes = len(self.store.manifest.classes)
        return {
            "07": VocMatches(self.truth, detections, classes, "07"),
            "area": VocMatches(self.truth, detections, classes, "area"),
        }


def validation_scenes(store: Store) -> Scenes:
    """The images held out of training; members are chosen on them."""
    return Scenes("val", store, store.train(), store.split_indices("holdout")[1])


def all_scenes(store: Store, records: ArrayRecords | ShardRecords) -> Scenes:
    """Every test image; `records` are the store's, which evaluation alone opens."""
    return Scenes("test", store, records, np.arange(len(records)))


def detect(
    weights: Sequence[Path], scenes: Scenes, cache: Path, device: torch.device, manner: Manner = BASELINE
) -> list[Detections]:
    """What one detector finds, or several as one (`JointDetector`), in each of the N images; all computed in float32.

    Args:
        weights: files that training wrote, at least one.
        cache: folder of earlier results, which are not computed again.
    Raises:
        PipelineError: weights of another data set, or detectors that see images of different sizes.
    """
    path = cache / _name([sha256(file) for file in weights], scenes, manner)
    if (rows := read_array(path, "the detections are computed again")) is not None:
        return _by_image(np.array(rows), len(scenes.indices))
    made = _forward(weights, scenes, device, manner)
    write_array(path, _in_rows(made))
    return made


def _name(checkpoints: Sequence[str], scenes: Scenes, manner: Manner) -> str:
    """A file name for what decides the result: the weights, the images, the code."""
    code = hash_of(code_version(detects=True), _CODE)
    how = "" if manner == BASELINE else repr(manner)
    nets = hashlib.sha256("".join([*sorted(checkpoints), how]).encode()).hexdigest()[:16]
    return f"{nets}-{scenes.store.manifest.content_hash[:16]}-{scenes.which}-{code}.npy"


def _forward(weights: Sequence[Path], scenes: Scenes, device: torch.device, manner: Manner) -> list[Detections]:
    detectors, batches, records = [], [], []
    for file in sorted(weights, key=sha256):  # so that an ensemble's order is of no account
        net, record = net_of_store(file, scenes.store.manifest.content_hash)
        assert isinstance(net, Detector)
        detectors.append(net)
        records.append(record)
        batches.append(scenes.batches(record.split, record.augment, record.normalize))
    if len(sides := sorted({record.augment.test_side for record in records})) > 1:
        raise PipelineError(
            f"the members see images of different sizes (recipe.augment.test_side={sides}); train them alike, or list members that were (ensemble=listed)"
        )
    joint = JointDetector(detectors, manner).to(device)
    sizes = [boxes.size for boxes in scenes.truth]
    made: list[Detections] = []
    loaders = [
        EvalLoader(scenes.indices, BATCH, each.fetch, each.ahead)
        for each in (batches[0], *_larger(scenes, records[0], manner))
    ]
    title = f"{scenes.which} images, {' + '.join(record.name for record in records)}"
    with progress(title, len(sizes), "images") as bar:
        for several in zip(*loaders, strict=True):
            on_device = [tuple(part.to(device) for part in fetched) for fetched in several]
            images, *larger = [[each.finish(parts)[1] for each in batches] for parts in on_device]
            if images[0]:
                with float32_products("fp32"):  # not TF32, as for nets that classify
                    found = joint(images, *larger)
                made += detections(found, images[0], sizes[len(made) : len(made) + len(images[0])])
            bar.advance(len(images[0]))
    return made


def _larger(scenes: Scenes, record: Net, manner: Manner) -> list[SceneBatches]:
    """Batches of the images at the largest scale, if that is above the images' own."""
    if (side := max(manner.scales, default=0)) <= record.augment.test_side:
        return []
    return [scenes.batches(record.split, replace(record.augment, test_side=side), record.normalize)]


def _in_rows(made: Sequence[Detections]) -> np.ndarray:
    """A row for each detection, image by image."""
    rows = np.empty(sum(len(each.scores) for each in made), _DETECTION)
    end = 0
    for image, each in enumerate(made):
        part = rows[end : end + len(each.scores)]
        part["image"], part["corners"], part["score"], part["label"] = image, each.corners, each.scores, each.labels
        end += len(each.scores)
    return rows


def _by_image(rows: np.ndarray, count: int) -> list[Detections]:
    """The detections of `count` images, from their rows."""
    ends = np.searchsorted(rows["image"], np.arange(count), side="right")
    return [
        Detections(part["corners"], part["score"], part["label"].astype(np.int64)) for part in np.split(rows, ends[:-1])
    ]
