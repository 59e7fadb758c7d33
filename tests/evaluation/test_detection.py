from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.data.boxes import Boxes
from pipeline.errors import PipelineError
from pipeline.evaluation.detection import CocoMatches, CocoScores, Detections, interval, relative_gain, voc_ap

FIRST, SECOND, THIRD, NOWHERE = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (0, 50, 10, 60)


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


def as_stats(scores: CocoScores) -> list[float]:
    six = (scores.ap, scores.ap50, scores.ap75, scores.ap_small, scores.ap_medium, scores.ap_large)
    return [-1.0 if value is None else value for value in six]


def coco_ap(truth: Boxes, detections: Detections, num_classes: int = 1) -> float | None:
    return CocoMatches([truth], [detections], num_classes).scores().ap


def test_coco_by_hand():
    # In order of scores: right, wrong, right. Precision 1 at recall 0.5 and 2/3 at recall 1, so 1 at the 51 recalls
    # 0, 0.01 ... 0.5 and 2/3 at the other 50.
    detections = found((0.9, FIRST), (0.8, NOWHERE), (0.7, SECOND))
    scores = CocoMatches([objects(FIRST, SECOND)], [detections], 1).scores()
    by_hand = pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    assert (scores.ap, scores.ap50, scores.ap75, scores.ap_small) == (by_hand,) * 4
    assert scores.ap_medium is None and scores.ap_large is None  # 10 * 10 pixels are small
    assert scores.per_class == (by_hand,)


def test_half_of_the_objects_are_found_without_an_error():
    assert coco_ap(objects(FIRST, SECOND), found((0.9, FIRST))) == pytest.approx(51 / 101)


def test_coco_asks_for_more_overlap_step_by_step():
    # 31 of 40 columns: an IoU of 0.775, enough at the six thresholds from 0.5 to 0.75.
    scores = CocoMatches([objects((0, 0, 40, 10))], [found((0.9, (0, 0, 31, 10)))], 1).scores()
    assert scores.ap == pytest.approx(0.6)
    assert (scores.ap50, scores.ap75) == (pytest.approx(1), pytest.approx(1))


def test_a_second_detection_of_an_object_is_false():
    # Right, false, right.
    detections = found((0.9, FIRST), (0.8, (0, 0, 10, 9.9)), (0.7, SECOND))
    assert coco_ap(objects(FIRST, SECOND), detections) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert voc_ap([objects(FIRST, SECOND)], [detections], 1, "area") == (pytest.approx((1 + 2 / 3) / 2),)


def test_detections_in_a_crowd_and_of_a_difficult_object_are_neither_right_nor_wrong():
    crowd = (50, 50, 90, 90)
    truth = objects(FIRST, crowd, ignored=[False, True])
    # COCO takes any part of a crowd as within it; VOC knows none, so there the overlap is with the whole.
    assert coco_ap(truth, found((0.9, (55, 55, 60, 60)), (0.8, (70, 70, 80, 80)), (0.7, FIRST))) == pytest.approx(1)
    difficult = [found((0.9, crowd), (0.8, (50, 50, 90, 89)), (0.7, FIRST))]
    assert voc_ap([truth], difficult, 1, "07") == voc_ap([truth], difficult, 1, "area") == (pytest.approx(1),)
    assert voc_ap([truth], [found((0.9, (55, 55, 60, 60)), (0.7, FIRST))], 1, "area") == (pytest.approx(1 / 2),)
    # An image whose only objects are ignored has nothing to find.
    nothing = objects(FIRST, ignored=[True])
    assert coco_ap(nothing, found((0.9, FIRST))) is None
    assert voc_ap([nothing], [found((0.9, FIRST))], 1, "07") == (None,)


def test_voc_by_hand():
    # Right, wrong, right, of two: precision 1 up to recall 0.5, then 2/3.
    truth, detections = [objects(FIRST, SECOND)], [found((0.9, FIRST), (0.8, NOWHERE), (0.7, SECOND))]
    assert voc_ap(truth, detections, 1, "07") == (pytest.approx((6 * 1 + 5 * 2 / 3) / 11),)
    assert voc_ap(truth, detections, 1, "area") == (pytest.approx(0.5 * 1 + 0.5 * 2 / 3),)


def test_voc_takes_an_overlap_of_one_half():
    assert voc_ap([objects((0, 0, 10, 20))], [found((0.9, FIRST))], 1, "area") == (1.0,)
    assert voc_ap([objects((0, 0, 10, 21))], [found((0.9, FIRST))], 1, "area") == (0.0,)


def test_a_detection_in_voc_does_not_turn_to_its_second_best_object():
    # Both overlap most with the first object: the second detection is false, although it overlaps enough with another.
    truth = objects((0, 0, 10, 10), (0, 0, 10, 14))
    detections = found((0.9, (0, 0, 10, 10)), (0.8, (0, 0, 10, 11)))
    assert voc_ap([truth], [detections], 1, "area") == (pytest.approx(1 / 2),)
    scores = CocoMatches([truth], [detections], 1).scores()
    assert scores.ap50 == pytest.approx(1)  # as COCO lets it


def test_the_fourth_of_vocs_eleven_recalls_is_above_three_of_ten():
    corners = [(20 * column, 0, 20 * column + 10, 10) for column in range(10)]
    detections = [found((0.9, corners[0]), (0.8, corners[1]), (0.7, corners[2]))]
    assert voc_ap([objects(*corners)], detections, 1, "07") == (pytest.approx(3 / 11),)
    # But seven of ten reach 0.7.
    detections = [found(*((0.9 - 0.1 * at, corners[at]) for at in range(7)))]
    assert voc_ap([objects(*corners)], detections, 1, "07") == (pytest.approx(8 / 11),)


def devkit(truth, detections, label: int, points: str) -> float:
    """VOCevaldet.m and VOCap.m line by line, on the kit's corners: pixels from 1, the last ones included."""
    inclusive = np.array([1, 1, 0, 0])
    gt, npos = [], 0
    for boxes in truth:
        of = boxes.labels == label
        gt.append((boxes.corners[of].astype(float) + inclusive, boxes.ignored[of], np.zeros(of.sum(), bool)))
        npos += (~boxes.ignored[of]).sum()
    rows = [
        (score, image, corners + inclusive)
        for image, each in enumerate(detections)
        for corners, score, of in zip(each.corners.astype(float), each.scores, each.labels, strict=True)
        if of == label
    ]
    rows.sort(key=lambda row: -row[0])
    tp, fp = np.zeros(len(rows)), np.zeros(len(rows))
    for d, (_, image, bb) in enumerate(rows):
        boxes, diff, det = gt[image]
        ovmax, jmax = -np.inf, -1
        for j, bbgt in enumerate(boxes):
            iw = min(bb[2], bbgt[2]) - max(bb[0], bbgt[0]) + 1
            ih = min(bb[3], bbgt[3]) - max(bb[1], bbgt[1]) + 1
            if iw > 0 and ih > 0:
                ua = (bb[2] - bb[0] + 1) * (bb[3] - bb[1] + 1) + (bbgt[2] - bbgt[0] + 1) * (bbgt[3] - bbgt[1] + 1)
                ov = iw * ih / (ua - iw * ih)
                if ov > ovmax:
                    ovmax, jmax = ov, j
        if ovmax >= 0.5:
            if not diff[jmax]:
                tp[d], fp[d], det[jmax] = not det[jmax], det[jmax], True
        else:
            fp[d] = 1
    with np.errstate(invalid="ignore"):
        rec, prec = tp.cumsum() / npos, tp.cumsum() / (tp.cumsum() + fp.cumsum())
    if points == "07":
        grid = [0, 0.1, 0.2, 3 * 0.1, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
        reached = [prec[rec >= t] for t in grid]
        return sum(np.nanmax(each) if np.isfinite(each).any() else 0.0 for each in reached) / 11
    mrec, mpre = [0.0, *rec, 1.0], [0.0, *prec, 0.0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = np.fmax(mpre[i], mpre[i + 1])
    return sum((mrec[i] - mrec[i - 1]) * mpre[i] for i in range(1, len(mrec)))


@pytest.mark.parametrize("seed", range(4))
def test_voc_is_the_kits_on_boxes_of_whole_pixels(seed):
    truth, detections = made(seed, images=30, classes=4)
    truth = [boxes._replace(corners=boxes.corners.round()) for boxes in truth]
    detections = [each._replace(corners=each.corners.round()) for each in detections]
    for points in ("07", "area"):
        *of_classes, without = voc_ap(truth, detections, 4, points)
        assert of_classes == pytest.approx([devkit(truth, detections, label, points) for label in range(3)], abs=1e-12)
        assert without is None


@pytest.mark.parametrize("tied", [False, True], ids=["", "tied"])
@pytest.mark.parametrize(("seed", "images", "classes"), [(0, 12, 2), (1, 25, 4), (2, 40, 3)])
def test_coco_is_pycocotools(seed, images, classes, tied):
    truth, detections = made(seed, images, classes, tied=tied)
    scores, theirs = CocoMatches(truth, detections, classes).scores(), official(truth, detections, classes)
    assert as_stats(scores) == theirs.stats[:6].tolist()
    precision = theirs.eval["precision"][:, :, :, 0, 2]
    assert list(scores.per_class[:-1]) == [precision[:, :, label].mean() for label in range(classes - 1)]
    assert scores.per_class[-1] is None
    assert 0.05 < scores.ap < 0.95


def test_more_than_a_hundred_detections_of_a_class_in_an_image():
    rng = np.random.default_rng(0)
    corners = [(9 * column, 0, 9 * column + 8, 8) for column in range(120)]
    rows = [(score, corners[at]) for score, at in zip(np.linspace(1, 0.1, 120), rng.permutation(120), strict=True)]
    truth, detections = [objects(*corners)], [found(*rows)]
    assert as_stats(CocoMatches(truth, detections, 1).scores()) == official(truth, detections, 1).stats[:6].tolist()
    assert voc_ap(truth, detections, 1, "area") == (pytest.approx(1),)  # VOC takes all


@pytest.mark.parametrize("seed", range(3))
def test_a_sample_is_what_pycocotools_says_of_repeated_images(seed):
    truth, detections = made(seed, images=20, classes=4)
    matches = CocoMatches(truth, detections, 4)
    counts = np.random.default_rng(seed).multinomial(20, np.full(20, 1 / 20))
    repeated = np.repeat(np.arange(20), counts)
    theirs = official([truth[at] for at in repeated], [detections[at] for at in repeated], 4)
    assert [matches.resampled(counts), *(matches.resampled(counts, iou) for iou in (0.5, 0.75))] == theirs.stats[
        :3
    ].tolist()


def test_each_image_once_is_all_images():
    matches = CocoMatches(*made(5, images=20, classes=3), 3)
    once, scores = np.ones(20, np.int64), matches.scores()
    assert (matches.resampled(once), matches.resampled(once, 0.5)) == (scores.ap, scores.ap50)
    many = np.random.default_rng(0).multinomial(20, np.full(20, 1 / 20), size=30)
    assert matches.resampled_often(many).tolist() == [matches.resampled(counts) for counts in many]


def test_a_sample_without_objects_has_no_ap():
    matches = CocoMatches([objects(FIRST), objects()], [found((0.9, FIRST)), found((0.8, SECOND))], 1)
    assert np.isnan(matches.resampled(np.array([0, 2])))
    assert matches.resampled(np.array([2, 0])) == 1


@pytest.mark.parametrize(
    ("truth", "detections"),
    [([], []), ([objects()], [found()]), ([objects()], [found((0.9, FIRST))])],
    ids=["no image", "nothing", "no object"],
)
def test_nothing_to_find(truth, detections):
    matches = CocoMatches(truth, detections, 2)
    assert matches.scores() == CocoScores(None, None, None, None, None, None, (None, None))
    assert voc_ap(truth, detections, 2, "07") == voc_ap(truth, detections, 2, "area") == (None, None)
    with pytest.raises(PipelineError, match="object"):
        interval(matches, seed=0)


def test_nothing_found():
    assert coco_ap(objects(FIRST), found()) == 0
    assert voc_ap([objects(FIRST)], [found()], 2, "07") == voc_ap([objects(FIRST)], [found()], 2, "area") == (0, None)


def test_gain_of_known_sets():
    # One finds the first of two objects in every image, the other both: AP 51/101 and 1 whatever the sample.
    truth = [objects(FIRST, SECOND)] * 8
    one = CocoMatches(truth, [found((0.9, FIRST))] * 8, 1)
    other = CocoMatches(truth, [found((0.9, FIRST), (0.8, SECOND))] * 8, 1)
    gain = relative_gain(one, other, seed=0, samples=50)
    assert gain.relative == pytest.approx((50 / 51,) * 3)
    assert gain.difference == pytest.approx((50 / 101,) * 3)
    back = relative_gain(other, one, seed=0, samples=50)
    assert back.relative == pytest.approx((-50 / 101,) * 3)
    assert relative_gain(one, one, seed=0, samples=50) == ((0, 0, 0), (0, 0, 0))


def test_a_paired_interval_is_narrower_than_apart():
    truth, detections = made(3, images=60, classes=3, noise=6)
    best = CocoMatches(truth, detections, 3)
    fewer = [each if image % 3 else found() for image, each in enumerate(detections)]
    worse = CocoMatches(truth, fewer, 3)
    gain, alone = relative_gain(worse, best, seed=1, samples=200), interval(best, seed=1, samples=200)
    assert gain.difference.estimate == best.scores().ap - worse.scores().ap > 0
    assert 0 < gain.difference.low < gain.difference.estimate < gain.difference.high
    assert gain.relative is not None
    assert gain.relative.estimate == pytest.approx(gain.difference.estimate / worse.scores().ap)
    assert gain.difference.high - gain.difference.low < alone.high - alone.low


def test_a_gain_over_nothing_is_not_relative():
    truth = [objects(FIRST)] * 3
    gain = relative_gain(CocoMatches(truth, [found()] * 3, 1), CocoMatches(truth, [found((0.9, FIRST))] * 3, 1), seed=0)
    assert gain.relative is None and gain.difference == (1, 1, 1)
    # Samples in which the one finds nothing gain infinitely.
    one = CocoMatches(truth, [found((0.9, FIRST)), found(), found()], 1)
    gain = relative_gain(one, CocoMatches(truth, [found((0.9, FIRST))] * 3, 1), seed=0)
    assert gain.relative is not None and gain.relative.high == np.inf and gain.relative.low == 0


def test_an_interval_is_decided_by_its_seed_and_that_of_literal_samples():
    truth, detections = made(7, images=30, classes=2)
    matches = CocoMatches(truth, detections, 2)
    drawn = interval(matches, seed=2, samples=100)
    assert drawn == interval(matches, seed=2, samples=100) != interval(matches, seed=3, samples=100)
    rng = np.random.default_rng(9)
    literal = []
    for _ in range(25):
        at = np.sort(rng.integers(30, size=30))
        literal.append(official([truth[i] for i in at], [detections[i] for i in at], 2).stats[0])
    assert drawn.estimate == matches.scores().ap
    assert (drawn.low, drawn.high) == pytest.approx(tuple(np.quantile(literal, [0.025, 0.975])), abs=0.05)


def test_intervals_of_a_gain_cover_that_of_all_images():
    truth, detections = made(11, images=602, classes=3)
    fewer = [Detections(*(column[: len(column) * 2 // 3] for column in each)) for each in detections]
    one, other = (CocoMatches(truth, each, 3).scores().ap50 for each in (fewer, detections))
    covered = []
    for start in range(2, 602, 30):
        part = slice(start, start + 30)
        pair = (CocoMatches(truth[part], each[part], 3) for each in (fewer, detections))
        gain = relative_gain(*pair, seed=start, samples=60, iou=0.5).relative
        covered.append(gain.low <= (other - one) / one <= gain.high)
    assert sum(covered) >= 16  # of 20; other made sets have 17 to 20, and 95 % are 19


def test_it_prints_nothing(capsys):
    matches = CocoMatches(*made(0, images=5, classes=2), 2)
    matches.scores()
    interval(matches, seed=0, samples=5)
    assert capsys.readouterr() == ("", "")


def test_refusals():
    with pytest.raises(ValueError, match="2 images and detections of 1"):
        CocoMatches([objects(), objects()], [found()], 1)
    with pytest.raises(ValueError, match="labels 0 to 1 in image 0; there are 1 classes"):
        voc_ap([objects(FIRST)], [found((0.9, FIRST), labels=[1])], 1, "07")
    with pytest.raises(PipelineError, match="diverged"):
        CocoMatches([objects(FIRST)], [found((np.nan, FIRST))], 1)
    matches = CocoMatches([objects(FIRST)] * 2, [found()] * 2, 1)
    for counts in (np.ones(3, np.int64), np.array([3, -1])):
        with pytest.raises(ValueError, match="counts"):
            matches.resampled(counts)
    with pytest.raises(ValueError, match=r"0\.52; COCO's are 0\.50, 0\.55"):
        matches.resampled(np.ones(2, np.int64), iou=0.52)
    with pytest.raises(ValueError, match="same images"):
        relative_gain(matches, CocoMatches([objects(FIRST)], [found()], 1), seed=0)
