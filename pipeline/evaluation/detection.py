"""Average precision (AP) of object detectors, as COCO and as PASCAL VOC define it.

N images, K classes, T = 10 thresholds of IoU from 0.5 to 0.95, R = 101 recalls from 0 to 1, S samples of the images. AP is
a fraction. An object that is ignored (`Boxes.ignored`) counts as a crowd in COCO's metric and as difficult in VOC's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.boxes import Boxes, Detections
from pipeline.errors import PipelineError
from pipeline.evaluation.matching import AREAS, RECALLS, THRESHOLDS, Counts, Floats, Ranked, ranked_matches

VOC_THRESHOLD = 0.5
# MATLAB's 0:0.1:1 counts from both ends, so 0.3 is 3 * 0.1, which is more than 3 / 10: three of ten do not reach it.
ELEVEN: Floats = np.array([step * 0.1 if step < 6 else 1 - (10 - step) * 0.1 for step in range(11)])
SURE = 0.5  # least score of a detection that pictures show; AP counts all of them
MOST_ELEMENTS = 2**22  # of the largest array while samples are computed, 32 MiB


@dataclass(frozen=True)
class CocoScores:
    """COCO's six APs and that of each class; None where no object counts."""

    ap: float | None  # mean over the thresholds of IoU
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    per_class: tuple[float | None, ...]  # (K,) as `ap`


class Matches:
    """Which detections match which objects, found once; AP of the images and of samples of them."""

    def __init__(self, num_images: int, ranked: Sequence[Ranked]) -> None:
        """From what is ranked of each class."""
        self.num_images, self.num_classes, self._all = num_images, len(ranked), ranked

    @property
    def objects(self) -> NDArray[np.int64]:
        """(N, K) number of objects that count."""
        columns = [ranked.objects for ranked in self._all]
        return np.stack(columns, axis=1) if columns else np.zeros((self.num_images, 0), np.int64)

    def resampled(self, counts: Counts, iou: float | None = None) -> float:
        """AP of the sample in which image i occurs counts[i] times; counts of 1 give exactly that of all images.

        It equals AP of images that are literally repeated, unless an image has detections of one class with equal scores,
        whose order is arbitrary: there all copies of the first come before those of the second.

        Args:
            counts: (N,) not negative.
            iou: COCO's: one of `THRESHOLDS`; None for the mean over them.
        Returns:
            NaN where the sample has no object.
        Raises:
            ValueError: counts of another shape or below 0, or no such threshold.
        """
        return float(self.resampled_often(np.asarray(counts)[None], iou)[0])

    def resampled_often(self, counts: Counts, iou: float | None = None) -> Floats:
        """(S,) as `resampled`, for (S, N) counts."""
        if counts.ndim != 2 or counts.shape[1] != self.num_images or (counts < 0).any():
            raise ValueError(f"counts of shape {counts.shape}; need (S, {self.num_images}), none below 0")
        thresholds = slice(None) if iou is None else _threshold(iou)
        most = max([self.num_classes * THRESHOLDS.size * RECALLS.size, *(r.images.size for r in self._all)])
        step = max(1, MOST_ELEMENTS // max(1, most))
        means = [
            _mean(precision)
            for start in range(0, len(counts), step)
            for precision in self._precision(counts[start : start + step], thresholds)
        ]
        return np.array([np.nan if mean is None else mean for mean in means], np.float64)

    def _precision(self, counts: Counts, thresholds: slice) -> Floats:
        """(S, T, R, K), whose mean is AP."""
        raise NotImplementedError


class CocoMatches(Matches):
    """What pycocotools matches.

    As in COCO's metric, the 100 best detections of each class count in an image. An object is small, medium or large by
    the area of its box. COCO's annotations have the area within the outline instead, which `Boxes` does not keep: on
    COCO's images ap_small, ap_medium and ap_large differ from published ones, the other APs do not.
    """

    def __init__(self, truth: Sequence[Boxes], detections: Sequence[Detections], num_classes: int) -> None:
        """From the objects and the detections of each image, in the same order.

        Raises:
            ValueError: different numbers of images, or labels outside 0..num_classes-1.
            PipelineError: a score or a corner that is not finite.
        """
        _require_comparable(truth, detections, num_classes)
        self._ranked = ranked_matches(truth, detections, num_classes)
        super().__init__(len(truth), self._ranked["all"])

    def scores(self) -> CocoScores:
        """Exactly pycocotools' numbers."""
        once = np.ones((1, self.num_images), np.int64)
        everything, small, medium, large = (self._precision(once, area=area)[0] for area in AREAS)
        return CocoScores(
            ap=_mean(everything),
            ap50=_mean(everything[_threshold(0.5)]),
            ap75=_mean(everything[_threshold(0.75)]),
            ap_small=_mean(small),
            ap_medium=_mean(medium),
            ap_large=_mean(large),
            per_class=tuple(_mean(everything[:, :, label]) for label in range(self.num_classes)),
        )

    def _precision(self, counts: Counts, thresholds: slice = slice(None), area: str = "all") -> Floats:
        shape = (len(counts), len(THRESHOLDS[thresholds]), len(RECALLS), self.num_classes)
        result = np.empty(shape)
        for label, ranked in enumerate(self._ranked[area]):
            result[..., label] = ranked.precision(counts, thresholds)
        return result


class VocMatches(Matches):
    """What VOC's development kit takes for right and for false at an IoU of 0.5 or more; its mAP is the AP.

    A detection belongs to the object with which it overlaps most. Of those that belong to one object, the one with the
    highest score is right and the others are false. One that belongs to a difficult object is neither.

    The kit's corners are pixels that belong to the box, from 1, and it adds 1 to each difference of them. `Boxes` ends
    where such a pixel ends, so right - left here is xmax - xmin + 1 there, and the IoU is the same.
    """

    def __init__(
        self,
        truth: Sequence[Boxes],
        detections: Sequence[Detections],
        num_classes: int,
        points: Literal["07", "area"],
    ) -> None:
        """As `CocoMatches`.

        Args:
            points: "07" for the mean precision at eleven recalls (VOC 2007), "area" for that below the curve (from 2010).
        """
        _require_comparable(truth, detections, num_classes)
        super().__init__(len(truth), [_voc_ranked(truth, detections, label) for label in range(num_classes)])
        self._points = points

    def per_class(self) -> tuple[float | None, ...]:
        """(K,) AP of each class; None without an object."""
        precision = self._precision(np.ones((1, self.num_images), np.int64), slice(None))
        return tuple(_mean(precision[..., label]) for label in range(self.num_classes))

    def _precision(self, counts: Counts, thresholds: slice) -> Floats:
        """At VOC's one threshold; the area stands in place of precision at R recalls."""
        parts = [
            ranked.area(counts)[..., None] if self._points == "area" else ranked.precision(counts, recalls=ELEVEN)
            for ranked in self._all
        ]
        return np.stack(parts, axis=-1) if parts else np.empty((len(counts), 1, 1, 0))


def _threshold(iou: float) -> slice:
    at = np.flatnonzero(np.isclose(THRESHOLDS, iou))
    if not at.size:
        raise ValueError(f"an IoU of {iou}; COCO's are {', '.join(f'{each:.2f}' for each in THRESHOLDS)}")
    return slice(int(at[0]), int(at[0]) + 1)


def _mean(precision: Floats) -> float | None:
    """Over all that is not NaN, as COCOeval.summarize over all that is not -1; None if nothing is left."""
    present = precision[~np.isnan(precision)]
    return float(present.mean()) if present.size else None


def _voc_ranked(truth: Sequence[Boxes], detections: Sequence[Detections], label: int) -> Ranked:
    objects = np.array([((boxes.labels == label) & ~boxes.ignored).sum() for boxes in truth], np.int64)
    parts = [_voc_outcomes(*pair, label) for pair in zip(truth, detections, strict=True)]
    none = (np.empty(0), np.empty(0, bool), np.empty(0, bool))
    scores, right, wrong = (np.concatenate(part) for part in zip(none, *parts, strict=True))
    images = np.repeat(np.arange(len(truth)), [len(part[0]) for part in parts])
    order = np.argsort(-scores, kind="stable")
    return Ranked(images[order], right[None, order], (right | wrong)[None, order], objects)


def _voc_outcomes(boxes: Boxes, detected: Detections, label: int) -> tuple[NDArray, NDArray, NDArray]:
    """Score of each detection of this class in an image, whether it is right, and whether it is wrong."""
    ours, theirs = boxes.labels == label, detected.labels == label
    order = np.argsort(-detected.scores[theirs], kind="stable")
    scores, corners = detected.scores[theirs][order].astype(np.float64), detected.corners[theirs][order]
    right, wrong = np.zeros(len(scores), bool), np.ones(len(scores), bool)
    if not ours.any():
        return scores, right, wrong
    overlaps, difficult = _overlaps(corners, boxes.corners[ours]), boxes.ignored[ours]
    taken = np.zeros(len(difficult), bool)
    for at, mine in enumerate(overlaps.argmax(axis=1)):
        if overlaps[at, mine] >= VOC_THRESHOLD:
            right[at] = not difficult[mine] and not taken[mine]
            wrong[at] = not difficult[mine] and taken[mine]
            taken[mine] = True
    return scores, right, wrong


def _overlaps(a: NDArray, b: NDArray) -> Floats:
    """(n, m) IoU of n with m boxes, each left, top, right, bottom."""
    a, b = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(sides, 0).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - common
    return common / np.maximum(union, np.finfo(np.float64).tiny)


def _require_comparable(truth: Sequence[Boxes], detections: Sequence[Detections], num_classes: int) -> None:
    if len(truth) != len(detections):
        raise ValueError(f"objects of {len(truth)} images and detections of {len(detections)}")
    for image, (boxes, detected) in enumerate(zip(truth, detections, strict=True)):
        labels = np.concatenate([boxes.labels, detected.labels])
        if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
            raise ValueError(
                f"labels {labels.min()} to {labels.max()} in image {image}; there are {num_classes} classes"
            )
        # NaN compares false with everything, so what a diverged net finds would have an order of its own.
        if not (np.isfinite(detected.scores).all() and np.isfinite(detected.corners).all()):
            raise PipelineError(
                f"detections in image {image} hold NaN or infinity: the net has diverged, and it cannot be judged"
            )
