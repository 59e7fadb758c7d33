"""What pycocotools matches in images, ranked so that precision of any sample of the images follows by arithmetic.

N images, K classes, D detections of one class, T = 10 thresholds of IoU from 0.5 to 0.95, R = 101 recalls from 0 to 1, S
samples of the images.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from pipeline.data.boxes import Boxes, Detections

Floats = NDArray[np.float64]
Counts = NDArray[np.integer]

THRESHOLDS: Floats = Params("bbox").iouThrs  # (T,)
RECALLS: Floats = Params("bbox").recThrs  # (R,)
AREAS = ("all", "small", "medium", "large")  # in pycocotools' order: any, up to 32**2, up to 96**2 pixels, beyond


class Ranked(NamedTuple):
    """The detections of one class, highest score first, and the objects of one range of areas."""

    images: NDArray[np.int64]  # (D,) in which image each is
    matched: NDArray[np.bool_]  # (T, D) matched to an object that counts
    counted: NDArray[np.bool_]  # (T, D) found or false; the others are of crowds or of other sizes
    objects: NDArray[np.int64]  # (N,) that count

    @classmethod
    def make(cls, per_image: Sequence[dict[str, Any] | None]) -> Ranked:
        """From what COCOeval says of each image, None where it has neither objects nor detections."""
        parts = [(at, each) for at, each in enumerate(per_image) if each is not None]
        objects = np.zeros(len(per_image), np.int64)
        for at, each in parts:
            objects[at] = np.count_nonzero(np.asarray(each["gtIgnore"]) == 0)
        images = np.repeat([at for at, _ in parts], [len(each["dtScores"]) for _, each in parts]).astype(np.int64)
        scores = np.concatenate([np.empty(0), *(each["dtScores"] for _, each in parts)])
        none = np.empty((len(THRESHOLDS), 0), bool)
        matched = np.concatenate([none, *(each["dtMatches"] > 0 for _, each in parts)], axis=1)
        counted = ~np.concatenate([none, *(each["dtIgnore"] for _, each in parts)], axis=1)
        order = np.argsort(-scores, kind="stable")  # ties as in COCOeval.accumulate
        return cls(images[order], (matched & counted)[:, order], counted[:, order], objects)

    def precision(self, counts: Counts, thresholds: slice = slice(None), recalls: Floats = RECALLS) -> Floats:
        """(S, T, R) the best precision at each recall or a higher one; NaN where the sample has no object."""
        curves = list(self._curves(counts, thresholds))
        result = np.zeros((len(counts), len(curves), len(recalls)))
        for at, (recall, best) in enumerate(curves):
            for sample, row in enumerate(recall):
                result[sample, at] = best[sample, np.searchsorted(row, recalls)]
        return self._where_objects(result, counts)

    def area(self, counts: Counts) -> Floats:
        """(S, T) below the curve of the best precision at each recall or a higher one; NaN as in `precision`."""
        curves = self._curves(counts, slice(None))
        areas = [(np.diff(recall, axis=1, prepend=0) * best[:, :-1]).sum(axis=1) for recall, best in curves]
        return self._where_objects(np.stack(areas, axis=1), counts)

    def _curves(self, counts: Counts, thresholds: slice) -> Iterator[tuple[Floats, Floats]]:
        """Of each threshold, recall (S, F) at the F detections that find something and best precision (S, F + 1), 0 beyond them.

        The copies of a detection are taken at once, and precision only where something is found: among the copies of an
        object found it rises, elsewhere it falls, so the best is always there.
        """
        objects = counts @ self.objects
        weights, seen, of = counts[:, self.images], np.empty(0), None
        for hits, counting in zip(self.matched[thresholds], self.counted[thresholds], strict=True):
            places = np.flatnonzero(hits)
            if of is None or not np.array_equal(of, counting):  # mostly the same at all thresholds
                seen, of = np.cumsum(weights * counting, axis=1), counting
            so_far = np.cumsum(weights[:, places], axis=1)
            best = np.zeros((len(counts), len(places) + 1))
            best[:, :-1] = so_far / (seen[:, places] + np.spacing(1))
            yield so_far / np.maximum(objects, 1)[:, None], np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]

    def _where_objects(self, values: Floats, counts: Counts) -> Floats:
        values[counts @ self.objects == 0] = np.nan
        return values


def ranked_matches(
    truth: Sequence[Boxes], detections: Sequence[Detections], num_classes: int
) -> dict[str, list[Ranked]]:
    """For each of `AREAS` what is found of each of the K classes."""
    objects: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for image, (boxes, detected) in enumerate(zip(truth, detections, strict=True)):
        crowds = [{"iscrowd": int(ignored)} for ignored in boxes.ignored]
        objects += _annotations(image, boxes.corners, boxes.labels, crowds)
        answers += _annotations(
            image, detected.corners, detected.labels, [{"score": float(s)} for s in detected.scores]
        )
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress
        evaluator = COCOeval(*(_coco(part, len(truth), num_classes) for part in (objects, answers)), iouType="bbox")
        evaluator.evaluate()
    cells = iter(evaluator.evalImgs)  # the image varies fastest, the class slowest
    by_class = [[Ranked.make([next(cells) for _ in truth]) for _ in AREAS] for _ in range(num_classes)]
    return {area: [ranked[at] for ranked in by_class] for at, area in enumerate(AREAS)}


def _annotations(image: int, corners: NDArray, labels: NDArray, more: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    result = []
    for (left, top, right, bottom), label, entries in zip(corners.tolist(), labels.tolist(), more, strict=True):
        width, height = right - left, bottom - top
        box = {"bbox": [left, top, width, height], "area": width * height}
        result.append({"image_id": image, "category_id": label, **box, **entries})
    return result


def _coco(annotations: Sequence[dict[str, Any]], num_images: int, num_classes: int) -> COCO:
    # COCOeval writes 0 for "not matched" where it else writes an id, so these start at 1.
    numbered = [{"id": number, **each} for number, each in enumerate(annotations, 1)]
    result = COCO()
    result.dataset = {"annotations": numbered, "images": [{"id": image} for image in range(num_images)]}
    result.dataset["categories"] = [{"id": label} for label in range(num_classes)]
    result.createIndex()
    return result
