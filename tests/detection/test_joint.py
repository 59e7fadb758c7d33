"""Several detectors as one."""

from __future__ import annotations

import torch

from pipeline.config import ModelConfig
from pipeline.detection.joint import JointDetector
from pipeline.learn.models import build_model

RESNET = ModelConfig(family="faster_rcnn", backbone="resnet8", anchor=4, depth=8, residual=True, shortcut="A")


def detector(seed: int):
    torch.manual_seed(seed)
    made = build_model(RESNET, 3, 1).eval()
    torch.nn.init.normal_(made.roi_heads.box_predictor.cls_score.weight, std=0.5)  # sure of something
    return made


def scenes(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 32, width, generator=generator) for width in (32, 48)]


def same(one: list[dict], other: list[dict]) -> bool:
    pairs = [(a[key], b[key]) for a, b in zip(one, other, strict=True) for key in ("boxes", "labels", "scores")]
    return all(a.shape == b.shape and torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def test_one_detector_finds_what_it_finds_alone() -> None:
    one = detector(0)
    with torch.no_grad():
        alone = one(scenes())
    assert any(len(each["boxes"]) for each in alone)
    assert same(JointDetector([one])([scenes()]), alone)


def test_the_order_of_detectors_is_of_no_account() -> None:
    one, other = detector(0), detector(1)
    found = JointDetector([one, other])([scenes(), scenes()])
    assert any(len(each["boxes"]) for each in found)
    turned = JointDetector([other, one])([scenes(), scenes()])
    for each, again in zip(found, turned, strict=True):
        assert torch.allclose(each["scores"].sort().values, again["scores"].sort().values, atol=1e-5)


def test_probabilities_are_averaged_over_the_union_of_regions() -> None:
    one, other = detector(0), detector(1)
    for each in (one, other):  # both say the same of any region: class 2, by 80 and by 60 %
        torch.nn.init.zeros_(each.roi_heads.box_predictor.cls_score.weight)
    for each, sure in ((one, 0.8), (other, 0.6)):
        rest = (1 - sure) / 3
        each.roi_heads.box_predictor.cls_score.bias.data = torch.tensor([rest, rest, sure, rest]).log()
    (found, _) = JointDetector([one, other])([scenes(), scenes()])
    of_class_2 = found["scores"][found["labels"] == 2]
    assert len(of_class_2) and torch.allclose(of_class_2, torch.full_like(of_class_2, 0.7))
