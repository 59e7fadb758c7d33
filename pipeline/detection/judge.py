"""From detections on test images to what evaluation publishes: AP of nets and ensemble, and pictures.

AP is a fraction; test_err1 is 1 - AP, test_err5 is 1 - AP at an IoU of 0.5. Intervals are at 95 %.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.detection.detect import Scenes
from pipeline.detection.gains import SEED, Judged, gains
from pipeline.ensemble.build import Ensemble
from pipeline.ensemble.mistakes import picture
from pipeline.ensemble.register import ensemble_key
from pipeline.evaluation.ap_intervals import interval, relative_gain
from pipeline.evaluation.detection import SURE, CocoMatches, Detections, VocMatches
from pipeline.evaluation.intervals import Interval
from pipeline.record import best_on_validation

SHOWN, SIDE = 12, 512  # pictures on the report's page, and their longest side in pixels


def judge(
    ensemble: Ensemble,
    scenes: Scenes,
    joint: Sequence[Detections],
    members: Sequence[Judged],
    named: Judged | None = None,
    others: Sequence[Judged] = (),
) -> dict[str, Any]:
    """The content of evaluate.json.

    Args:
        joint: what the ensemble finds.
        named: the run of the train stage.
        others: nets that are neither members nor the named run.
    """
    manifest, matches = scenes.store.manifest, scenes.matches(joint)
    every = {judged.net.checkpoint_sha256: judged for judged in (*members, *filter(None, [named]), *others)}
    best, difference = best_on_validation([judged.net for judged in members]), None
    if best is not None and len(members) > 1:
        gain = relative_gain(every[best.checkpoint_sha256].matches, matches, SEED).difference
        difference = {"estimate": -gain.estimate, "ci95": [-gain.high, -gain.low]}
    return {
        "task": "detection",
        "data": {
            "name": manifest.name,
            "content_hash": manifest.content_hash,
            "num_test": len(scenes.indices),
            "classes": list(manifest.classes),
        },
        "classes": list(manifest.classes),
        "members": [tested(judged) for judged in members],
        "ensemble": {
            "key": ensemble_key(ensemble.members),
            "size": ensemble.size,
            "selection": ensemble.selection,
            "val_err1": ensemble.val_err1,
            **measured(matches, scenes.voc_matches(joint)),
            "difference_to_best_member": difference,
        },
        "run": tested(named) if named else None,
        "others": [tested(judged) for judged in others],
        "gains": gains(list(every.values())),
    }


def tested(judged: Judged) -> dict[str, Any]:
    return {**judged.net.to_json(), **measured(judged.matches, judged.voc)}


def measured(matches: CocoMatches, voc: Mapping[str, VocMatches]) -> dict[str, Any]:
    """COCO's scores, VOC's, and the errors that stand for them in the record of a net."""
    scores, ap, ap50 = asdict(matches.scores()), interval(matches, SEED), interval(matches, SEED, iou=0.5)
    per_class, by_points = scores.pop("per_class"), {points: interval(each, SEED) for points, each in voc.items()}
    return {
        "test_err1": 1 - ap.estimate,
        "test_err5": 1 - ap50.estimate,
        "ci95": [1 - end for end in reversed(_bounds(ap))],
        "ci95_err5": [1 - end for end in reversed(_bounds(ap50))],
        "scores": scores,
        "per_class": list(per_class),
        "voc": {points: each.estimate for points, each in by_points.items()},
        "voc_ci95": {points: _bounds(each) for points, each in by_points.items()},
    }


def _bounds(ap: Interval) -> list[float]:
    """A basic bootstrap's interval may reach beyond 0 or 1, which AP does not."""
    return [max(ap.low, 0.0), min(ap.high, 1.0)]


def pictures(scenes: Scenes, detections: Sequence[Detections]) -> list[dict[str, Any]]:
    """Test images from all over the set, as PNG in base64, with their objects and what was found in them."""
    count = len(scenes.indices)
    places = np.unique(np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int)).tolist()
    return [
        {
            "index": int(scenes.indices[at]),
            "size": list(scenes.truth[at].size),
            "png": base64.b64encode(picture(scenes.records, int(scenes.indices[at]), SIDE)).decode(),
            "truth": [
                {"corners": corners.tolist(), "label": int(label), "ignored": bool(ignored)}
                for corners, label, ignored in zip(*scenes.truth[at][1:], strict=True)
            ],
            "found": [
                {"corners": corners.tolist(), "label": int(label), "score": float(score)}
                for corners, score, label in zip(*detections[at], strict=True)
                if score >= SURE
            ],
        }
        for at in places
    ]
