"""Detectors in the configuration: which backbones there are, what they decide, and what is refused with what instead."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from imports import ROOT
from nets import make_detector, make_model

from pipeline.compose import compose
from pipeline.config import Config, from_dict, with_overrides
from pipeline.config.model import backbone_facts, backbone_name
from pipeline.errors import PipelineError
from pipeline.learn.models.detectors import SCALES
from pipeline.tuning import sweep

SCENES = "data=digit_scenes"


def made(*overrides: str) -> Config:
    path = ["data.path=/images"] if "data=boxes" in overrides else []
    config = from_dict(compose(ROOT, [*overrides, *path]))
    config.check_composed()
    return config


@pytest.mark.parametrize(
    ("backbone", "family", "depth", "residual", "shortcut"),
    [
        ("resnet20", "cifar", 20, True, "A"),
        ("plain20", "cifar", 20, False, "A"),
        ("resnet8", "cifar", 8, True, "A"),
        ("resnet101", "imagenet", 101, True, "B"),
        ("plain34", "imagenet", 34, False, "B"),
        ("vgg16", "vgg", 16, False, "A"),
        ("vgg16_bn", "vgg_bn", 16, False, "A"),
        ("vgg11_small", "vgg_small", 11, False, "A"),
        ("vgg16_bn_small", "vgg_bn_small", 16, False, "A"),
    ],
)
def test_a_backbone_is_named_and_decides_its_net(
    backbone: str, family: str, depth: int, residual: bool, shortcut: str
) -> None:
    model = made(SCENES, f"model.backbone={backbone}").model
    assert (model.depth, model.residual, model.shortcut) == (depth, residual, shortcut)
    assert (model.net.family, model.net.depth, model.net.residual, model.net.backbone) == (family, depth, residual, "")
    assert model.detects and not model.net.detects
    assert backbone_name(model.net) == backbone


@pytest.mark.parametrize(
    "net",
    [
        make_model(8, family="alexnet"),
        make_model(22, family="googlenet_small"),
        make_model(20, shortcut="B"),
        make_model(50, family="cifar"),  # resnet50 is that of Table 1
    ],
    ids=lambda net: net.name,
)
def test_nets_that_no_backbone_is_called_have_no_name(net: Any) -> None:
    assert backbone_name(net) == ""


@pytest.mark.parametrize(
    ("backbone", "sentence"),
    [
        ("''", "names no net, which a detector (model.family) needs; give resnet or plain with a number of layers"),
        ("alexnet", "model.backbone='alexnet' names no net"),
        ("googlenet", "names no net"),
        ("ResNet20", "names no net"),
        ("resnet020", "names no net"),
        ("resnet20_bn", "names no net"),
        ("resnet21", "resnet has 18, 20, 32, 34, 44, 50, 56, 101, 110, 152, 1202 layers, or another 6n+2"),
        ("plain2", "model.backbone='plain2' names no net; plain has 18, 20"),
        ("vgg17_small", "vgg has 11, 13, 16, 19 layers (override: model.backbone=vgg16_small)"),
    ],
)
def test_names_of_no_net_are_refused_with_one_that_works(backbone: str, sentence: str) -> None:
    refused_until_followed([SCENES, f"model.backbone={backbone}"], sentence)


def refused_until_followed(overrides: list[str], sentence: str) -> Config:
    """The configuration that the sentence's override makes of one that is refused."""
    with pytest.raises(PipelineError) as error:
        made(*overrides)
    assert sentence in str(error.value)
    advice = re.search(r"\(override: (.+)\)$", str(error.value))
    assert advice, str(error.value)
    return made(*overrides, *advice.group(1).split())


OF_CLASSIFIERS = [
    *("recipe.label_smoothing=0.1", "recipe.decay_norm=true", "recipe.muon_lr=0.02", "start.head=kept"),
    *("trainer.compile=true", "trainer.cuda_graphs=true", "evaluation.views=ten_crop", "evaluation.batchnorm=averaged"),
]
FOLLOWED = [
    *(([each], f"{each.split('=')[0]} with model=faster_rcnn; only classifiers have it") for each in OF_CLASSIFIERS),
    (["recipe.augment.kind=pad_crop"], "detectors see whole images"),
    (["data=coco", "recipe.augment.test_side=0"], "give the shorter side that images are tested at"),
    (["data=boxes", "recipe.augment.test_side=0"], "give the shorter side that images are tested at"),
    (
        ["recipe.augment.max_side=96"],
        "recipe.augment.max_side=96 with data.format=arrays, whose images keep their size",
    ),
    (["data=boxes", "recipe.augment.max_side=96"], "training images would be drawn down to a single pixel"),
    (["recipe.normalize=per_pixel_mean"], "whose images differ in size"),
    (["recipe.schedule=multistep", "recipe.warmup_fraction=0", "recipe.warmup_lr=0.1"], "recipe.warmup_lr with model"),
    (["recipe.small_side=64", "recipe.small_fraction=0.5"], "recipe.small_side and recipe.small_fraction with model"),
    (
        ["recipe.muon_lr=0.02", "start.head=kept"],
        "recipe.muon_lr and start.head with model=faster_rcnn; only classifiers",
    ),
    (["ensemble=greedy"], "ensemble.selection=greedy with model=faster_rcnn; detectors share their regions"),
    (["ensemble=snapshots"], "ensemble.selection=snapshots with model=faster_rcnn"),
    (["ensemble.temperature=validation"], "ensemble.temperature=validation with model=faster_rcnn"),
    (["trainer.debug=overfit"], "which has no training error that could fall to zero"),
    (["recipe.augment.mixup=0.2"], "recipe.augment.mixup with recipe.augment.kind=whole"),
    (["recipe.augment.trivial_augment=true", "recipe.augment.erasing=0.1"], "which flips and scales alone"),
    (["model=faster_rcnn_fpn", "model.backbone=vgg16"], "a feature pyramid takes residual and plain nets"),
    (["sweep.space={model.depth:[8,20]}"], "sweep.space holds model.depth with model=faster_rcnn"),
    (
        ["sweep.space=[{model.backbone:[resnet20]},{model.residual:[true],model.shortcut:[A]}]"],
        "sweep.space holds model.residual and model.shortcut",
    ),
    (
        ["sweep.space={seed:[0,1]}", "sweep.search={space:{model.depth:[8,20]},take:[model.depth]}"],
        "sweep.search.space holds model.depth",
    ),
]


@pytest.mark.parametrize(("overrides", "sentence"), FOLLOWED, ids=[" ".join(entry[0]) for entry in FOLLOWED])
def test_what_detectors_lack_is_refused_and_the_override_that_is_named_works(
    overrides: list[str], sentence: str
) -> None:
    data = [] if overrides[0].startswith("data=") else [SCENES]
    assert refused_until_followed([*data, *overrides], sentence).model.detects


@pytest.mark.parametrize("key", ["depth=20", "residual=false", "shortcut=B"])
def test_the_net_has_one_name(key: str) -> None:
    sentence = f"model.{key.split('=')[0]} with model=faster_rcnn, whose net model.backbone names; give that alone"
    with pytest.raises(PipelineError, match=re.escape(sentence)):
        made(SCENES, f"model.{key}")


OF_DETECTORS = [
    (["model.anchor=32"], "model.anchor with model=cifar; only detectors have it (override: model.anchor=64)"),
    (["model.context=true"], "only detectors have it (override: model.context=false)"),
    (["recipe.rois=32"], "recipe.rois with model=cifar; only detectors have it (override: recipe.rois=128)"),
    (["evaluation.refine=true"], "only detectors have it (override: evaluation.refine=false)"),
    (["evaluation.scales=[200,400]"], "only detectors have it (override: evaluation.scales=[])"),
    (["model.anchor=32", "recipe.rois=32"], "model.anchor and recipe.rois with model=cifar; only detectors have them"),
]


@pytest.mark.parametrize(("overrides", "sentence"), OF_DETECTORS, ids=[" ".join(entry[0]) for entry in OF_DETECTORS])
def test_what_classifiers_lack_is_refused_and_the_override_that_is_named_works(
    overrides: list[str], sentence: str
) -> None:
    assert refused_until_followed(["data=cifar10", *overrides], sentence) == made("data=cifar10")


SHRUNK = "recipe.augment.max_side=96"  # with min_side=0


def test_no_trial_of_a_sweep_shrinks_its_images_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store: Any = SimpleNamespace(
        manifest=SimpleNamespace(content_hash="hash"), split_indices=lambda *_: (range(100), range(10))
    )
    monkeypatch.setattr(sweep, "open_store", lambda _: store)
    monkeypatch.setattr(sweep, "require_task", lambda *_: None)
    monkeypatch.setattr(sweep, "require_settings", lambda *_: None)
    config = made("data=boxes", "data.path=set", "sweep.space={recipe.augment.max_side:[0,96]}")
    with pytest.raises(PipelineError, match=rf"the sweep has a trial with {SHRUNK}: .* down to a single pixel"):
        sweep.checked(config, Path("store"))


def test_what_an_earlier_version_trained_goes_on() -> None:
    earlier = from_dict(compose(ROOT, [SCENES, SHRUNK]))  # as from its own config.yaml
    assert made(SCENES, SHRUNK, "start.checkpoint=0123456789ab").recipe == earlier.recipe


def test_values_that_use_nothing_are_no_use_of_a_key() -> None:
    assert made(SCENES, "trainer.compile=false").model.detects


def test_a_detectors_configuration_becomes_that_of_a_classifier_again() -> None:
    overrides = [SCENES, "model=cifar", "model.backbone=''", "recipe.augment.kind=pad_crop"]
    config = refused_until_followed(
        overrides, "model.anchor and recipe.rois with model=cifar; only detectors have them"
    )
    assert (config.model.net, config.model.depth) == (config.model, 20)


def test_a_classifier_has_no_backbone() -> None:
    with pytest.raises(PipelineError, match=r"which is no detector \(override: model=faster_rcnn\)"):
        made("data=cifar10", "model.backbone=resnet20")


def test_another_backbone_decides_the_net_anew() -> None:
    config = made(SCENES)
    for backbone in ("plain56", "vgg16_bn", "resnet50", "resnet20"):
        config = with_overrides(config, {"model.backbone": backbone})
        facts = backbone_facts(backbone)
        assert (config.model.net.family, config.model.depth) == (facts["family"], facts["depth"])
        assert (config.model.residual, config.model.shortcut) == (facts["residual"], facts["shortcut"])
    assert with_overrides(config, {"model.backbone": made(SCENES).model.backbone}) == made(SCENES)


def test_a_record_of_a_detector_is_named_after_its_net() -> None:
    assert make_detector("resnet101", stride_on="3x3").name == "ResNet-101 (v1.5) Faster R-CNN"
    assert make_detector("plain20", "faster_rcnn_fpn").name == "plain-20 FPN"


@pytest.mark.parametrize("sweep", ["detection", "detection_paper"])
@pytest.mark.parametrize("data", ["coco", "voc", "boxes"])
def test_the_papers_comparison_starts_both_nets_from_weights_of_one_recipe(data: str, sweep: str) -> None:
    config = made(f"data={data}", f"sweep={sweep}")
    weights = [config.start.weights, *(each for grid in config.sweep.space for each in grid["start.weights"])]
    assert [each.rpartition("_")[2] for each in weights] == ["V1"] * 3


def test_cocos_anchors_have_the_sides_of_ren_et_al() -> None:
    config = made("data=coco")
    assert [config.model.anchor * 2**scale for scale in range(SCALES)] == [64, 128, 256, 512]
