"""AP of detectors against pycocotools and VOC's development kit."""

from __future__ import annotations

import numpy as np
import pytest
from made_detections import FIRST, NOWHERE, SECOND, found, made, objects, official

from pipeline.data.boxes import Boxes
from pipeline.errors import PipelineError
from pipeline.evaluation import detection
from pipeline.evaluation.detection import CocoMatches, CocoScores, Detections, VocMatches
from pipeline.evaluation.matching import RECALLS, THRESHOLDS


def as_stats(scores: CocoScores) -> list[float]:
    six = (scores.ap, scores.ap50, scores.ap75, scores.ap_small, scores.ap_medium, scores.ap_large)
    return [-1.0 if value is None else value for value in six]


def coco_ap(truth: Boxes, detections: Detections, num_classes: int = 1) -> float | None:
    return CocoMatches([truth], [detections], num_classes).scores().ap


def voc_ap(truth, detections, num_classes: int, points: str) -> tuple[float | None, ...]:
    return VocMatches(truth, detections, num_classes, points).per_class()


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
    assert [voc_ap([truth], difficult, 1, points) for points in ("07", "area")] == [(pytest.approx(1),)] * 2
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
    assert voc_ap([objects((0, 0, 10, 20))], [found((0.9, FIRST))], 1, "area") == (pytest.approx(1),)
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


@pytest.mark.parametrize("points", ["07", "area"])
def test_a_sample_is_what_the_kit_says_of_repeated_images(points):
    truth, detections = made(4, images=20, classes=4)
    counts = np.random.default_rng(4).multinomial(20, np.full(20, 1 / 20))
    repeated = np.repeat(np.arange(20), counts)
    again = VocMatches([truth[at] for at in repeated], [detections[at] for at in repeated], 4, points).per_class()
    matches = VocMatches(truth, detections, 4, points)
    assert matches.resampled(counts) == pytest.approx(np.mean([ap for ap in again if ap is not None]), abs=1e-12)
    assert matches.resampled(counts) != matches.resampled(np.ones(20, np.int64))


def test_each_image_once_is_all_images():
    matches = CocoMatches(*made(5, images=20, classes=3), 3)
    once, scores = np.ones(20, np.int64), matches.scores()
    assert (matches.resampled(once), matches.resampled(once, 0.5)) == (scores.ap, scores.ap50)
    many = np.random.default_rng(0).multinomial(20, np.full(20, 1 / 20), size=30)
    assert matches.resampled_often(many).tolist() == [matches.resampled(counts) for counts in many]


def test_many_samples_are_computed_some_at_a_time(monkeypatch):
    matches, usual, sizes = CocoMatches(*made(6, images=20, classes=3), 3), CocoMatches._precision, []
    many = np.random.default_rng(6).multinomial(20, np.full(20, 1 / 20), size=17)
    alone = [matches.resampled(counts) for counts in many]

    def looked(self, counts, *rest):
        sizes.append(len(counts))
        return usual(self, counts, *rest)

    monkeypatch.setattr(CocoMatches, "_precision", looked)
    monkeypatch.setattr(detection, "MOST_ELEMENTS", 5 * 3 * THRESHOLDS.size * RECALLS.size)
    assert matches.resampled_often(many).tolist() == alone and len(set(alone)) > 12
    assert sizes == [5, 5, 5, 2]


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


def test_nothing_found():
    assert coco_ap(objects(FIRST), found()) == 0
    assert voc_ap([objects(FIRST)], [found()], 2, "07") == voc_ap([objects(FIRST)], [found()], 2, "area") == (0, None)


def test_it_prints_nothing(capsys):
    matches = CocoMatches(*made(0, images=5, classes=2), 2)
    matches.scores()
    matches.resampled(np.ones(5, np.int64))
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
