"""Made-up inputs of a report of detectors."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from nets import make_model, make_net
from PIL import Image

from pipeline.record import Net
from pipeline.report.curve import Curve
from pipeline.report.detectors import DetectionInputs

DIGITS = [str(digit) for digit in range(10)]


def make_detector(residual: bool, ap: float, seed: int = 0, **changes: Any) -> Net:
    """A Faster R-CNN of 14 layers with this AP on the test images."""
    backbone = "resnet14" if residual else "plain14"
    model = changes.pop("model", None) or make_model(
        14, residual, family="faster_rcnn", backbone=backbone, anchor=8, shortcut="A"
    )
    values = {"val_err1": 1 - ap - 0.01, "test_err1": 1 - ap, "test_err5": 0.7 * (1 - ap)}
    values["ci95"] = (1 - ap - 0.0213, 1 - ap + 0.0197)
    values["ci95_err5"] = (1 - ap - 0.3211, 1 - ap - 0.2811)
    return make_net(model=model, seed=seed, steps=450, residual=residual, **{**values, **changes})


def make_entry(net: Net, classes: Sequence[str] = DIGITS) -> dict[str, Any]:
    """A detector in evaluate.json; small objects and the last class have no AP."""
    ap = 1 - (net.test_err1 or 0.0)
    return {**net.to_json(), **make_scores(ap, classes)}


def make_scores(ap: float, classes: Sequence[str] = DIGITS) -> dict[str, Any]:
    per_class = [round(ap + 0.02 * (at % 5 - 2), 4) for at in range(len(classes) - 1)]
    scores = {"ap": ap, "ap50": ap + 0.3011, "ap75": ap + 0.0712, "ap_small": None}
    scores |= {"ap_medium": ap - 0.0323, "ap_large": ap + 0.0634}
    voc = {"07": ap + 0.2857, "area": ap + 0.2949}
    voc_ci95 = {points: [mean - 0.0243, mean + 0.0231] for points, mean in voc.items()}
    return {"scores": scores, "per_class": [*per_class, None], "voc": voc, "voc_ci95": voc_ci95}


def make_gain(low: float, estimate: float, high: float, base_ap: float = 0.4012, **changes: Any) -> dict[str, Any]:
    """low, estimate, high: of AP; AP50 and VOC's mAP gain the same on more."""
    measured = {key: _changed(low, estimate, high, base_ap + more) for key, more in (("ap50", 0.3), ("voc07", 0.2857))}
    values = {"net": "ResNet-14", "base": "plain-14", "seeds": [0, 1, 2], **_changed(low, estimate, high, base_ap)}
    return {**values, **measured, **changes}


def _changed(low: float, estimate: float, high: float, base_ap: float) -> dict[str, Any]:
    relative = {"estimate": estimate / base_ap, "ci95": [low / base_ap, high / base_ap]}
    difference = {"estimate": estimate, "ci95": [low, high]}
    return {"base_ap": base_ap, "net_ap": base_ap + estimate, "relative": relative, "difference": difference}


def make_scene(index: int = 7, size: tuple[int, int] = (128, 128)) -> dict[str, Any]:
    """An image of noise with three objects, one of them ignored, and three detections, one of them wrong."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(index).integers(0, 256, (size[1], size[0]), np.uint8)
    Image.fromarray(pixels).save(buffer, format="PNG")
    corners = [[8.0, 10.0, 40.0, 60.0], [70.0, 20.0, 120.0, 75.0], [50.0, 80.0, 90.0, 127.0]]
    truth = [{"corners": box, "label": at + 1, "ignored": at == 2} for at, box in enumerate(corners)]
    found = [
        {"corners": [side + 1.5 for side in box], "label": at + 1, "score": 0.983 - at / 10}
        for at, box in enumerate([*corners[:2], [2.0, 90.0, 30.0, 120.0]])
    ]
    return {
        "index": index,
        "size": list(size),
        "png": base64.b64encode(buffer.getvalue()).decode(),
        "truth": truth,
        "found": found,
    }


def make_ap_curve(net: Net, steps: int = 450) -> Curve:
    last = 0.99 - (net.val_err1 or 0.0)
    at = [steps * part // 6 for part in range(1, 7)]
    ap = [(step, last * (step / steps) ** 0.5) for step in at]
    points = {"val/ap": ap, "val/ap50": [(step, value + 0.3) for step, value in ap]}
    return Curve(net=net, points={**points, "train/loss": [(step, 2 - step / steps) for step in at]})


def make_detection_sample(
    gains: Sequence[dict[str, Any]] = (make_gain(0.0089, 0.0301, 0.0527),),
    scenes: Sequence[dict[str, Any]] | None = None,
    classes: Sequence[str] = DIGITS,
    name: str = "digit_scenes",
) -> DetectionInputs:
    """Inputs with everything in them: three seeds of two nets, the best of each in the ensemble."""
    nets = {
        residual: [make_detector(residual, ap + 0.0049 * seed, seed, key=f"{int(residual)}{seed}") for seed in range(3)]
        for residual, ap in ((True, 0.4265), (False, 0.3964))
    }
    members = [nets[True][2], nets[False][2]]
    others = [net for side in nets.values() for net in side[:2]]
    ensemble = {
        "key": "e",
        "size": 2,
        "selection": "best_per_depth",
        "val_err1": 0.5417,
        "test_err1": 0.5523,
        "test_err5": 0.2541,
        "ci95": [0.5329, 0.5718],
        "ci95_err5": [0.2318, 0.2722],
        **make_scores(0.4477, classes),
        "difference_to_best_member": {"estimate": -0.0114, "ci95": [-0.0213, -0.0021]},
    }
    trials = [
        {
            "name": net.name,
            "config": {"model.backbone": net.model.backbone, "seed": net.seed},
            "val_err1": net.val_err1,
            "steps": 450,
            "stopped_early": False,
            "status": "finished",
            "run_id": net.run_id,
            "key": net.key,
        }
        for side in nets.values()
        for net in side
    ]
    return DetectionInputs(
        data={
            "name": name,
            "classes": list(classes),
            "counts": {"train": 1800, "val": 200, "test": 500},
            "content_hash": "39e8" * 16,
        },
        evaluation={
            "task": "detection",
            "data": {"name": name, "content_hash": "39e8" * 16},
            "ensemble": ensemble,
            "members": [make_entry(net, classes) for net in members],
            "run": make_entry(nets[True][0], classes),
            "others": [make_entry(net, classes) for net in others[1:]],
            "gains": list(gains),
            "classes": list(classes),
        },
        leaderboard={"metric": "val/err1", "trials": trials},
        curves=[make_ap_curve(net) for side in nets.values() for net in side],
        scenes=[make_scene(index) for index in (3, 7)] if scenes is None else scenes,
        provenance={
            "git_commit": ["59734c4d0e5f"],
            "date": "2025-03-14",
            "commands": {"the whole experiment": "dvc exp run -S data=digit_scenes"},
        },
    )


def with_evaluation(inputs: DetectionInputs, **changes: Any) -> DetectionInputs:
    return dataclasses.replace(inputs, evaluation={**inputs.evaluation, **changes})


def make_coco_sample(gain: dict[str, Any] | None = None, steps: int = 320_000) -> DetectionInputs:
    """Two nets of the paper's comparison, on COCO."""
    nets = {
        "VGG-16": make_model(16, False, family="faster_rcnn", backbone="vgg16", shortcut="B"),
        "ResNet-101 (v1.5)": make_model(
            101, True, family="faster_rcnn", backbone="resnet101", shortcut="B", stride_on="3x3"
        ),
    }
    members = [
        make_entry(dataclasses.replace(make_detector(model.residual, ap, model=model, key=name), steps=steps))
        for (name, model), ap in zip(nets.items(), (0.212, 0.272), strict=True)
    ]
    gain = gain or make_gain(0.05, 0.06, 0.07, 0.212, net="ResNet-101 (v1.5)", base="VGG-16", seeds=[0, 1, 2])
    return with_evaluation(make_detection_sample(name="coco"), members=members, run=None, others=[], gains=[gain])
