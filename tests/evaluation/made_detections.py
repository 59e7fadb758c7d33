"""Made-up objects and detections, and what pycocotools says of them."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.data.boxes import Boxes, Detections

FIRST, SECOND, NOWHERE = (0, 0, 10, 10), (20, 0, 30, 10), (0, 50, 10, 60)


def objects(*corners, labels=None, ignored=None) -> Boxes:
    n = len(corners)
    return Boxes.make((100, 100), list(zip(corners, labels or [0] * n, ignored or [False] * n, strict=True)))


def found(*rows, labels=None) -> Detections:
    """From (score, corners), highest score first."""
    corners = np.array([row[1] for row in rows], np.float32).reshape(-1, 4)
    scores = np.array([row[0] for row in rows], np.float32)
    return Detections(corners, scores, np.array(labels or [0] * len(rows), np.int64))


def made(
    seed: int, images: int, classes: int, noise: float = 4.0, tied: bool = False
) -> tuple[list[Boxes], list[Detections]]:
    """Objects of all sizes, some crowds; detections near to them, of a wrong class, and elsewhere.

    Scores are equal only in different images, or, if tied, also within one. The last class has no object, the first
    image none, and the second image no detection.
    """
    rng = np.random.default_rng(seed)
    truth, detections = [], []
    for image in range(images):
        n = int(rng.integers(1, 7)) if image else 0
        sides = np.exp(rng.uniform(np.log(8), np.log(200), (n, 2)))
        corners = rng.uniform(0, 300, (n, 2))
        corners = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
        labels = rng.integers(classes - 1, size=n)
        truth.append(Boxes((500, 500), corners, labels, rng.random(n) < 0.15))
        near = np.repeat(corners, 2, axis=0) + rng.normal(0, noise, (2 * n, 4))
        away = rng.uniform(0, 200, (3, 2))
        away = np.concatenate([away, away + rng.uniform(5, 150, (3, 2))], axis=1)
        boxes = np.concatenate([near, away]).astype(np.float32)
        classes_found = np.concatenate([np.repeat(labels, 2), rng.integers(classes, size=3)])
        classes_found = np.where(rng.random(len(boxes)) < 0.1, rng.integers(classes, size=len(boxes)), classes_found)
        scores = rng.integers(8, size=len(boxes)) / 8 if tied else rng.permutation(64)[: len(boxes)] / 64
        keep = np.argsort(-scores, kind="stable") if image != 1 else np.empty(0, np.int64)
        detections.append(Detections(boxes[keep], scores[keep].astype(np.float32), classes_found[keep]))
    return truth, detections


def official(truth: Sequence[Boxes], detections: Sequence[Detections], num_classes: int) -> COCOeval:
    """pycocotools from COCO's own formats, as a user of its two files would call it."""
    annotations, results = [], []
    for image, (boxes, detected) in enumerate(zip(truth, detections, strict=True), 1):
        for (left, top, right, bottom), label, crowd in zip(
            boxes.corners.tolist(), boxes.labels.tolist(), boxes.ignored.tolist(), strict=True
        ):
            box = [left, top, right - left, bottom - top]
            entry = {"image_id": image, "category_id": label + 1, "bbox": box, "area": box[2] * box[3]}
            annotations.append({**entry, "id": len(annotations) + 1, "iscrowd": int(crowd)})
        for (left, top, right, bottom), score, label in zip(
            detected.corners.tolist(), detected.scores.tolist(), detected.labels.tolist(), strict=True
        ):
            box = [left, top, right - left, bottom - top]
            results.append({"image_id": image, "category_id": label + 1, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image + 1} for image in range(len(truth))],
            "categories": [{"id": label + 1} for label in range(num_classes)],
            "annotations": annotations,
        }
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator
