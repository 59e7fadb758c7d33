"""Several detectors as one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline.config import ModelConfig
from pipeline.detection.joint import JointDetector, Manner, _moved, _Outputs, _voted
from pipeline.detection.scales import Look, _pairs, looks_at, seen
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
    one, other, images = detector(6), detector(7), scenes(2)
    found = JointDetector([one, other])([images, images])
    assert all(len(each["boxes"]) for each in found)
    assert same(JointDetector([other, one])([images, images]), found)


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


def test_refined_boxes_lie_where_those_around_them_vote() -> None:
    heads = detector(0).roi_heads
    regions = [  # left and right edge; probabilities of the background and two classes
        ((0, 20), (0.17, 0.80, 0.03)),
        ((0, 16), (0.47, 0.50, 0.03)),  # overlaps the first by 0.8
        ((0, 12), (0.67, 0.30, 0.03)),  # by 0.6
        ((0, 8), (0.27, 0.70, 0.03)),  # by 0.4: neither votes nor stays
        ((0, 18), (0.07, 0.03, 0.90)),  # of the other class
        ((24, 30), (0.37, 0.60, 0.03)),
    ]
    corners = torch.tensor([[left, 0.0, right, 20.0] for (left, right), _ in regions])
    outputs = _Outputs(torch.tensor([shares for _, shares in regions]).log(), torch.zeros(len(regions), 12))
    (found,) = _voted(heads, outputs, [corners], [(32, 32)])
    assert found["labels"].tolist() == [2, 1, 1] and found["scores"].tolist() == pytest.approx([0.9, 0.8, 0.6])
    mean = (0.8 * 20 + 0.5 * 16 + 0.3 * 12) / (0.8 + 0.5 + 0.3)
    assert torch.allclose(found["boxes"], torch.tensor([[0, 0, 18, 20], [0, 0, mean, 20], [24, 0, 30, 20]]), atol=1e-4)
    assert heads.nms_thresh == 0.5  # as before


def test_regions_move_to_the_boxes_of_their_most_probable_classes() -> None:
    heads = detector(0).roi_heads
    regions = torch.tensor([[4.0, 4, 14, 14], [20.0, 20, 30, 30], [0.0, 0, 10, 10]])
    # The coder counts a shift of a region's side as 10; class 1 moves to the right, class 2 down.
    moves = torch.zeros(3, 3, 4)
    moves[:, 1, 0], moves[:, 2, 1] = 10 * 0.3, 10 * 0.5
    moves[2, 1, 0] = -10 * 2.0  # out of the image
    logits = torch.tensor([[0.8, 0.15, 0.05], [0.1, 0.3, 0.6], [0.1, 0.8, 0.1]]).log()
    one, other = _moved(heads, _Outputs(logits, moves.flatten(1)), list(regions.split([1, 2])), [(32, 32), (32, 32)])
    assert torch.allclose(one, torch.tensor([[7.0, 4, 17, 14]]))  # the background has no box
    assert torch.allclose(other, torch.tensor([[20.0, 25, 30, 32], [0.0, 0, 10, 10]]))  # cut, and none without area


@torch.no_grad()
def test_refined_boxes_are_seen_twice() -> None:
    one, images = detector(7), scenes(4)
    batch, maps, looks = looks_at(one, images, ())
    regions, sizes = one.rpn(batch, maps, None)[0], batch.image_sizes
    counts = [len(each) for each in regions]
    first = _Outputs(*one.roi_heads.box_predictor(seen(one, looks, regions)))
    moved = _moved(one.roi_heads, first, regions, sizes)
    again = _Outputs(*one.roi_heads.box_predictor(seen(one, looks, moved)))
    expected = []
    for at, size in enumerate(sizes):
        both = (torch.cat([said.split(counts)[at] for said in pair]) for pair in zip(first, again, strict=True))
        expected += _voted(one.roi_heads, _Outputs(*both), [torch.cat([regions[at], moved[at]])], [size])
    assert all(len(each["boxes"]) for each in expected)
    assert same(JointDetector([one], Manner(refine=True))([images]), expected)
    assert not same(JointDetector([one])([images]), expected)


def test_one_scale_that_is_the_images_own_changes_nothing() -> None:
    one = detector(0)
    images = [scenes()[0]]
    assert same(JointDetector([one], Manner(scales=(32,)))([images]), JointDetector([one])([images]))


def test_regions_are_seen_at_the_two_scales_at_which_they_are_as_large_as_classified_images() -> None:
    looks = [Look({}, [(0, 0)], [factor]) for factor in (0.5, 1.0, 2.0, 4.0)]
    sides = [8.0, 17.0, 30.0, 64.0, 100.0]  # classified at 32
    regions = torch.tensor([[0.0, 0.0, side, side] for side in sides])
    assert _pairs(looks, [regions], 32).tolist() == [[3, 2], [2, 1], [1, 2], [0, 1], [0, 1]]
    # A second image of twice the side, with more regions than the first.
    looks = [Look({}, [(0, 0)] * 2, [factor, factor / 2]) for factor in (0.5, 1.0, 2.0, 4.0)]
    pairs = _pairs(looks, [regions[[0, 2]], 2 * regions[[1, 3, 0]]], 32)
    assert pairs.tolist() == [[3, 2], [1, 2], [2, 1], [0, 1], [3, 2]]


def test_more_scales_give_the_larger_of_two_numbers() -> None:
    one = detector(0)
    images = [scenes()[0]]
    _, _, looks = looks_at(one, images, (32, 64))
    regions = [torch.tensor([[2.0, 2.0, 22.0, 22.0]])]
    alone = [
        seen(one, [look._replace(factors=[1.0])], [regions[0] * factor])
        for look, factor in zip(looks, (1, 2), strict=True)
    ]
    assert torch.allclose(seen(one, looks, regions), torch.maximum(*alone), atol=1e-5)


def test_a_scale_above_the_images_own_is_made_of_the_larger_image() -> None:
    one, images, larger = detector(0), [scenes()[0]], [torch.randn(1, 64, 64)]
    _, _, (small, large) = looks_at(one, images, (16, 64), larger)
    assert torch.allclose(large.maps["0"], one.backbone(torch.stack(larger)), atol=1e-5) and large.factors == [2]
    _, _, (alone,) = looks_at(one, images, (16,))
    assert torch.equal(small.maps["0"], alone.maps["0"])


def test_a_long_image_is_no_longer_at_a_scale_than_a_training_image_of_its_side() -> None:
    _, _, (look,) = looks_at(detector(0), [torch.randn(1, 20, 100)], (40,))
    assert look.sizes == [(13, 67)] and look.factors == [0.67]  # 5/3 of 40


def test_context_stands_beside_each_region() -> None:
    torch.manual_seed(0)
    made = build_model(replace(RESNET, context=True), 3, 1)
    targets = [{"boxes": torch.tensor([[4.0, 4, 20, 20]]), "labels": torch.tensor([1]), "seeds": (1, 2)}] * 2
    sum(made(scenes(), targets).values()).backward()
    assert all(each.grad is not None for each in made.roi_heads.box_head.parameters() if each.requires_grad)
    made.eval()
    maps = {"0": made.backbone(torch.stack([scenes()[0]] * 2))}
    regions = [torch.tensor([[1.0, 1, 9, 9], [3.0, 3, 30, 30]]), torch.tensor([[0.0, 0, 32, 32]])]
    numbers = made.roi_heads.box_head(made.roi_heads.box_roi_pool(maps, regions, [(32, 32)] * 2))
    width = numbers.shape[1] // 2
    assert torch.allclose(numbers[0, width:], numbers[1, width:]) and not torch.allclose(numbers[0], numbers[1])
    assert torch.allclose(numbers[2, :width], numbers[2, width:])  # a region that is the whole image
