"""Faster R-CNN over the nets of this package: what it takes over, what learns, what it draws, what it finds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from nets import make_detector
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from pipeline.config import ModelConfig
from pipeline.learn.models import build_model
from pipeline.learn.models.detectors import Detector, SeededSampler

SMALL = [("resnet8", "faster_rcnn"), ("resnet8", "faster_rcnn_fpn")]
LARGE = [
    ("resnet18", "faster_rcnn"),
    ("resnet50", "faster_rcnn"),
    ("vgg16", "faster_rcnn"),
    ("vgg16_bn", "faster_rcnn"),
]
NORM = nn.modules.batchnorm._BatchNorm


def built(model: ModelConfig, classes: int = 3, channels: int = 1) -> tuple[Detector, nn.Module, dict[str, Tensor]]:
    """A detector, the net that it was made of, and that net's state before."""
    torch.manual_seed(0)
    nets: list[nn.Module] = []

    def prepare(net: nn.Module) -> None:
        for module in net.modules():  # as a trained net has them
            if isinstance(module, NORM):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2.0)
        nets.append(net)
        state.update({key: value.clone() for key, value in net.state_dict().items()})

    state: dict[str, Tensor] = {}
    detector = build_model(model, classes, channels, prepare=prepare)
    assert isinstance(detector, Detector)
    return detector, nets[0], state


def targets(*objects: list[tuple[int, int, int, int]]) -> list[dict[str, Any]]:
    """Of images with these boxes, whose labels count from 1 on, and seeds of their own."""
    return [
        {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.arange(1, len(boxes) + 1),
            "seeds": [2 * at + 1, 2 * at + 2],
        }
        for at, boxes in enumerate(objects)
    ]


@pytest.mark.parametrize(("backbone", "family"), SMALL)
def test_the_classifiers_layers_are_taken_over_by_value(backbone: str, family: str) -> None:
    detector, _, state = built(make_detector(backbone, family))
    places = places_of(detector, state)
    assert {key for key in state if not places[key]} == {"fc.weight", "fc.bias"}  # which name classes of images
    last = [key for key in state if key.startswith("layer3.")]
    assert last and all(("roi_heads.box_head." in places[key]) == (family == "faster_rcnn") for key in last)


def places_of(detector: Detector, state: dict[str, Tensor]) -> dict[str, str]:
    """Where a detector holds each tensor of a net; "" for nowhere."""
    taken = detector.state_dict()
    return {
        key: " ".join(name for name in taken if name.endswith(f".{key}") and torch.equal(taken[name], value))
        for key, value in state.items()
    }


@pytest.mark.parametrize("backbone", ["resnet8", "resnet18"])
def test_body_and_head_compute_what_the_classifier_does(backbone: str) -> None:
    detector, _, state = built(make_detector(backbone), channels=3)
    classifier = build_model(make_detector(backbone).net, 3, 3).eval()
    classifier.load_state_dict(state)
    heard: dict[str, Tensor] = {}
    last = "layer3" if backbone == "resnet8" else "layer4"
    getattr(classifier, last).register_forward_pre_hook(lambda module, inputs: heard.update(body=inputs[0]))
    getattr(classifier, last).register_forward_hook(lambda module, inputs, output: heard.update(stage=output))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        classifier(images)
        body = detector.backbone(images)  # batch norm is frozen, so that training mode changes nothing
        assert torch.equal(body, heard["body"])
        pooled = detector.roi_heads.box_head(body)
    torch.testing.assert_close(pooled, heard["stage"].mean((2, 3)))


def test_vggs_last_pooling_is_left_out_and_its_hidden_layers_see_regions() -> None:
    detector, net, state = built(make_detector("vgg11_bn_small"), channels=3)
    places, classifier = places_of(detector, state), net.classifier
    assert isinstance(classifier, nn.Sequential) and isinstance(classifier[-1], nn.Linear)
    assert {key for key in state if not places[key]} == {
        f"classifier.{len(classifier) - 1}.{p}" for p in ("weight", "bias")
    }
    hidden = [key for key in state if key.startswith("classifier.") and places[key]]
    assert hidden and all("roi_heads.box_head." in places[key] for key in hidden)
    assert detector.roi_heads.box_predictor.cls_score.in_features == classifier[-1].in_features
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        body = detector.backbone(images)
        assert torch.equal(nn.functional.max_pool2d(body, 2, 2), net.eval().features(images))  # type: ignore[operator]
    sum(detector.train()([images[0]], targets([(4, 5, 20, 22)])).values()).backward()
    assert_all_but_batch_norm_learn(detector)


@pytest.mark.parametrize(("backbone", "family"), SMALL)
def test_batch_norm_stays_as_it_is_and_everything_else_learns(backbone: str, family: str) -> None:
    detector, _, _ = built(make_detector(backbone, family))
    detector.eval().train()
    before = {key: value.clone() for key, value in detector.named_buffers()}
    images, boxes = torch.randn(2, 1, 64, 64), targets([(4, 5, 20, 22)], [(30, 30, 60, 50), (2, 2, 12, 12)])
    sum(detector(list(images), boxes).values()).backward()
    assert_all_but_batch_norm_learn(detector)
    assert all(torch.equal(value, before[key]) for key, value in detector.named_buffers())
    moving = [m for m in detector.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    assert detector.training and not moving


def assert_all_but_batch_norm_learn(detector: Detector) -> None:
    modules = [(name, module) for name, module in detector.named_modules() if isinstance(module, NORM)]
    norms = {f"{name}.{part}" for name, _ in modules for part in ("weight", "bias")}
    for name, parameter in detector.named_parameters():
        assert (parameter.grad is None) == (name in norms) == (not parameter.requires_grad), name


def test_what_an_image_draws_depends_on_its_seed_alone() -> None:
    sampler = SeededSampler(8, 0.5)
    matched = [torch.arange(40) % 3 - 1, torch.arange(60) % 2]  # -1: neither, 0: background, above: an object

    def drawn(order: list[int], seeds: list[int]) -> dict[int, tuple[list[int], list[int]]]:
        sampler.seeds = [seeds[at] for at in order]
        ours, theirs = sampler([matched[at] for at in order])
        return {
            at: (one.nonzero().flatten().tolist(), two.nonzero().flatten().tolist())
            for at, one, two in zip(order, ours, theirs, strict=True)
        }

    torch.manual_seed(1)
    both = drawn([0, 1], [7, 8])
    assert [len(part) for part in both[0]] == [4, 4]
    torch.manual_seed(2)
    assert drawn([1, 0], [7, 8]) == both == drawn([0], [7, 8]) | drawn([1], [7, 8])
    assert drawn([0], [9, 8])[0] != both[0]
    torch.manual_seed(1)  # from which dropout draws next
    before = torch.get_rng_state()
    drawn([0], [7, 8])
    assert torch.equal(torch.get_rng_state(), before)
    sampler.seeds = [7]
    with pytest.raises(ValueError, match="longer"):
        sampler(matched)


@pytest.mark.parametrize(("backbone", "family"), SMALL)
def test_the_loss_of_a_batch_is_the_mean_of_its_images(backbone: str, family: str) -> None:
    """Where images sample equally many regions, as they do unless fewer than recipe.rois are proposed."""
    detector, _, _ = built(make_detector(backbone, family))
    images, boxes = list(torch.randn(2, 1, 64, 64)), targets([(4, 5, 20, 22)], [])
    both = detector(images, boxes)
    alone = [detector(images[at : at + 1], boxes[at : at + 1]) for at in (0, 1)]
    for name, loss in both.items():
        torch.testing.assert_close(loss, (alone[0][name] + alone[1][name]) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("backbone", "family"), SMALL)
def test_images_without_objects_train(backbone: str, family: str) -> None:
    detector, _, _ = built(make_detector(backbone, family))
    losses = detector(list(torch.randn(2, 1, 64, 64)), targets([], []))
    assert losses["loss_box_reg"] == losses["loss_rpn_box_reg"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters() if p.requires_grad)


def test_labels_count_from_one_inside_and_boxes_lie_in_their_image() -> None:
    detector, _, _ = built(make_detector(), classes=3)
    detector.eval()
    detector.roi_heads.score_thresh, detector.roi_heads.detections_per_img = 0.0, 10_000
    images = [torch.randn(1, 64, 48), torch.randn(1, 40, 64)]
    with torch.no_grad():
        found = detector(images)
    labels = Counter(label for each in found for label in each["labels"].tolist())
    assert set(labels) == {1, 2, 3}
    for each, image in zip(found, images, strict=True):
        assert (each["boxes"] >= 0).all() and (each["boxes"] <= torch.tensor([*image.shape[:0:-1]] * 2)).all()
        assert (each["scores"].diff() <= 0).all()


def test_bf16_rounds_no_place() -> None:
    """bfloat16 has 8 bits: of 256 pixels and more, it tells every second one apart."""
    detector, _, _ = built(make_detector(anchor=8))
    detector.eval()
    detector.roi_heads.score_thresh = 0.0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (found,) = detector([torch.randn(1, 32, 500)])
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    inside = found["boxes"][(found["boxes"][:, 2] > 256) & (found["boxes"][:, 2] < 500), 2]
    assert len(inside) > 5 and (inside.bfloat16() != inside).any()
    assert len(found["scores"].unique()) > 95


@pytest.mark.parametrize(
    ("backbone", "family"), [*LARGE, ("resnet50", "faster_rcnn_fpn"), ("resnet18", "faster_rcnn_fpn")]
)
def test_imagenets_nets_become_detectors(backbone: str, family: str) -> None:
    with torch.device("meta"):
        detector = build_model(make_detector(backbone, family, anchor=32), 20)
        assert isinstance(detector, Detector)
        maps = detector.backbone(torch.empty(1, 3, 608, 800))
    sides = [value.shape[-2:] for value in (maps.values() if isinstance(maps, dict) else [maps])]
    if family == "faster_rcnn":
        assert sides == [(38, 50)]  # a sixteenth, as Ren et al. 2015 and appendix A have it
    else:
        assert sides == [(152, 200), (76, 100), (38, 50), (19, 25), (10, 13)]
    assert detector.num_classes == 20 and detector.roi_heads.box_predictor.cls_score.out_features == 21


def test_over_resnet_50_with_a_pyramid_it_is_torchvisions_net() -> None:
    """Parameter by parameter; torchvision counts the background among its 91 classes."""
    with torch.device("meta"):
        ours = build_model(make_detector("resnet50", "faster_rcnn_fpn", anchor=32, stride_on="3x3"), 90)
        theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    shapes = [sorted((tuple(p.shape) for p in net.parameters()), key=str) for net in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert sum(p.numel() for p in ours.parameters()) == 41_808_406
    for part in ("rpn", "roi_heads"):
        one, two = (getattr(net, part).state_dict() for net in (ours, theirs))
        assert {key: value.shape for key, value in one.items()} == {key: value.shape for key, value in two.items()}
    assert (
        [*ours.rpn.anchor_generator.sizes]
        == [*theirs.rpn.anchor_generator.sizes]
        == [(32,), (64,), (128,), (256,), (512,)]
    )  # type: ignore[union-attr]


@pytest.mark.parametrize("side", [32, 33, 45, 64, 65, 96, 97])
@pytest.mark.parametrize("context", [False, True])
def test_regions_are_cut_at_the_scale_of_the_maps_whatever_image_comes_first(side: int, context: bool) -> None:
    """torchvision compares the map of the padded image with the size before padding, so 33 pixels gave twice the scale."""
    detector = build_model(make_detector(context=context), 3, 1).eval()
    with torch.no_grad():
        detector([torch.zeros(1, side, side)])
    assert detector.roi_heads.box_roi_pool.scales == [0.5]


def test_a_pyramid_has_its_scales_from_any_image() -> None:
    detector = build_model(make_detector(family="faster_rcnn_fpn"), 3, 1).eval()
    with torch.no_grad():
        detector([torch.zeros(1, 33, 40)])
    assert detector.roi_heads.box_roi_pool.scales == [1.0, 0.5, 0.25]
