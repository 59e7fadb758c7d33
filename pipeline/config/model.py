"""model.*: the net. Which nets there are is stated and checked here alone, with the standard library alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pipeline.config.section import Positive, Section, require, shown

# Two families of the paper: Table 1 (ImageNet) and Sec. 4.2 (CIFAR, 6n + 2 layers).
IMAGENET_DEPTHS = (18, 34, 50, 101, 152)
CIFAR_DEPTHS = (20, 32, 44, 56, 110, 1202)
DEEPEST = 9_998  # a CIFAR net of so many layers takes minutes to build
OTHER_DEPTHS = {"alexnet": (8,), "vgg": (11, 13, 16, 19), "googlenet": (22,)}
NO_GLOBAL_POOL = ("alexnet", "vgg", "vgg_bn")  # they pool any map to one size, so have no fully convolutional form
LARGE_STEM = ("alexnet", "vgg", "vgg_bn", "googlenet")  # they halve the map until little is left of a small image
_PREDECESSORS = {"vgg": "VGG", "alexnet": "AlexNet", "googlenet": "GoogLeNet"}
DETECTORS = ("faster_rcnn", "faster_rcnn_fpn")
DECIDED = ("depth", "residual", "shortcut")  # keys that a detector's backbone decides
_BACKBONE = re.compile(r"(?P<kind>resnet|plain|vgg)(?P<depth>[1-9]\d{0,3})(?P<marks>(_bn)?(_small)?)")
_USUAL_DEPTH = {"cifar": 20, "imagenet": 18, "alexnet": 8, "vgg": 16, "googlenet": 22}


def family_defaults(family: str) -> dict[str, Any]:
    """Defaults that depend on the family; none for an unknown one.

    Option A is the paper's for CIFAR (Sec. 4.2), option B for 50 layers and more (Table 1).
    """
    kind = family.split("_")[0]
    if kind not in _USUAL_DEPTH:
        return {}
    shortcut = "B" if kind == "imagenet" else "A"
    return {"depth": _USUAL_DEPTH[kind], "residual": kind not in OTHER_DEPTHS, "shortcut": shortcut}


def backbone_facts(backbone: str) -> dict[str, Any]:
    """family and the keys of `DECIDED` of a detector's backbone: resnet101, plain20, vgg16, vgg16_bn_small.

    resnet and plain with a number of layers of Table 1 are ImageNet's nets, with any other number CIFAR's.

    Raises:
        PipelineError: no such name.
    """
    name = _BACKBONE.fullmatch(backbone)
    require(
        name is not None and (name["kind"] == "vgg" or not name["marks"]),
        f"model.backbone={shown(backbone)} names no net, which a detector (model.family) needs; give resnet or plain with a number of layers (resnet101, plain20), or vgg16, vgg16_bn, vgg16_small (override: model.backbone=resnet20)",
    )
    assert name is not None
    depth, kind = int(name["depth"]), name["kind"]
    family = f"vgg{name['marks']}" if kind == "vgg" else "imagenet" if depth in IMAGENET_DEPTHS else "cifar"
    numbers = _listed(OTHER_DEPTHS["vgg"] if kind == "vgg" else tuple(sorted((*IMAGENET_DEPTHS, *CIFAR_DEPTHS))))
    require(
        depth in OTHER_DEPTHS["vgg"] if kind == "vgg" else family == "imagenet" or _of_cifar(depth),
        f"model.backbone={shown(backbone)} names no net; {kind} has {numbers} layers{'' if kind == 'vgg' else ', or another 6n+2'} (override: model.backbone={kind}{16 if kind == 'vgg' else 20}{name['marks']})",
    )
    return {**family_defaults(family), "family": family, "depth": depth, "residual": kind == "resnet"}


def backbone_name(net: ModelConfig) -> str:
    """What model.backbone calls a net that classifies; "" for one that no detector is built over."""
    kind, *marks = net.family.split("_")
    title = kind if kind not in ("cifar", "imagenet") else "resnet" if net.residual else "plain"
    name = "_".join([f"{title}{net.depth}", *marks])
    if kind in ("alexnet", "googlenet"):
        return ""
    return name if all(getattr(net, key) == value for key, value in backbone_facts(name).items()) else ""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """A residual or plain net of the paper, or one of its predecessors; `build_model` builds it.

    vgg needs a learning rate below 0.1 (recipe.lr=0.01); vgg_bn has batch norm. alexnet is that of Krizhevsky 2014
    ("one weird trick"), googlenet has batch norm and no auxiliary classifiers, both as torchvision builds them.
    The _small nets have a small stem and classifier, for images of 32 pixels.
    faster_rcnn detects objects with the net that backbone names (Sec. 4.3).
    """

    section: ClassVar[str] = "model"

    # cifar and imagenet: the paper's residual and plain nets (Sec. 4.2, Table 1); the others are its predecessors.
    # faster_rcnn: a detector whose last stage sees regions (appendix A), faster_rcnn_fpn: one with a feature pyramid.
    family: Literal[
        "cifar",
        "imagenet",
        "alexnet",
        "alexnet_small",
        "vgg",
        "vgg_small",
        "vgg_bn",
        "vgg_bn_small",
        "googlenet",
        "googlenet_small",
        "faster_rcnn",
        "faster_rcnn_fpn",
    ] = "cifar"
    # detectors: resnet101, plain20, vgg16 and so on; decides depth, residual and shortcut
    backbone: str = ""
    anchor: Positive = 64  # detectors: side of the smallest anchor in pixels; others are 2, 4 and 8 times as large
    # detectors: each region also gets the last stage's features of the whole image (appendix B)
    context: bool = False
    depth: Positive  # the family decides the default of this key and the next two: `family_defaults`
    residual: bool  # false: a plain net, the same layers without shortcuts (Sec. 3.3); always so for predecessors
    shortcut: Literal["A", "B", "C"]  # Sec. 4.1; a plain net ignores it
    stride_on: Literal["1x1", "3x3"] = "1x1"  # convolution of a bottleneck that has the stride; torchvision's: 3x3
    shortcut_zeros: Literal["after", "around"] = "after"  # option A pads behind the channels, or half before them
    init_fan: Literal["fan_in", "fan_out"] = "fan_in"  # of He's initialisation: Caffe's default, or torchvision's
    # Batch norm's scales at the start: 1, but 0 at the end of a residual branch (Goyal et al. 2017), or drawn from
    # U(0, 1), as Torch7 and PyTorch before 1.2 did.
    norm_scale: Literal["one", "zero_last", "uniform"] = "one"

    @property
    def detects(self) -> bool:
        """Whether it finds objects and their boxes, rather than the class of an image."""
        return self.family in DETECTORS

    @property
    def net(self) -> ModelConfig:
        """The net that classifies: a detector's backbone, or the net itself."""
        return (
            replace(self, **backbone_facts(self.backbone), backbone="", anchor=ModelConfig.anchor, context=False)
            if self.detects
            else self
        )

    @property
    def kind(self) -> str:
        """The family without its variants: vgg of vgg_bn_small; of a detector, its backbone's."""
        return self.net.family.split("_")[0]

    @property
    def small(self) -> bool:
        """Whether the net is made for images of CIFAR's size."""
        family = self.net.family
        return family == "cifar" or family.endswith("_small")

    @property
    def bottleneck(self) -> bool:
        return self.net.family == "imagenet" and self.depth >= 50

    @property
    def name(self) -> str:
        """The net's one display name, as the paper or its authors write it: ResNet-56, plain-56, ResNet-34 (B), VGG-16 (BN).

        In brackets stands what the number of layers leaves open: the option of 18 and 34 layers (Tables 2 and 3), an
        option other than the paper's, torchvision's stride ("v1.5"), a CIFAR net as deep as one of Table 1.
        """
        if self.detects:
            head = "FPN" if self.family.endswith("_fpn") else "Faster R-CNN"
            return _marked(f"{self.net.name} {head}", ["context"] if self.context else [])
        kind, *marks = self.family.split("_")
        if kind in _PREDECESSORS:
            title = _PREDECESSORS[kind] + (f"-{self.depth}" if kind == "vgg" else "")
            return _marked(title, ["BN" if mark == "bn" else mark for mark in marks])
        if kind == "cifar" and self.depth in IMAGENET_DEPTHS:
            marks.append("CIFAR")
        usual = "B" if self.bottleneck else "A" if kind == "cifar" else ""  # 18 and 34 layers have no usual option
        if self.residual and self.shortcut != usual:
            marks.append(self.shortcut)
        if self.bottleneck and self.stride_on == "3x3":
            marks.append("v1.5")
        return _marked(f"{'ResNet' if self.residual else 'plain'}-{self.depth}", marks)

    def score(self, error: float) -> str:
        """An error in percent, or the AP of a detector, whose error is 1 - AP."""
        return f"AP {100 * (1 - error):.1f} %" if self.detects else f"error {100 * error:.2f} %"

    def check(self) -> None:
        require(
            self.detects or not self.backbone,
            f"model.backbone={shown(self.backbone)} with model.family={self.family}, which is no detector (override: model=faster_rcnn)",
        )
        if self.detects:
            self.net.check()
            require(
                self.family == "faster_rcnn" or self.net.family in ("cifar", "imagenet"),
                f"model.family={self.family} with model.backbone={self.backbone}; a feature pyramid takes residual and plain nets (override: model=faster_rcnn)",
            )
            return
        require(
            self.norm_scale != "zero_last" or self.residual,
            f"model.norm_scale=zero_last with {self.name}, whose layers would pass no signal without shortcuts; choose one or uniform",
        )
        if self.family == "cifar":
            require(
                _of_cifar(self.depth),
                f"model.depth={self.depth} is not 6n+2 from 8 to {DEEPEST:,}; the paper's CIFAR nets are {_listed(CIFAR_DEPTHS)} (override: model.depth=56)",
            )
            require(
                self.shortcut != "C",
                "model.shortcut=C is defined for the ImageNet nets; CIFAR nets take A (the paper's) or B",
            )
        elif self.family == "imagenet":
            require(
                self.depth in IMAGENET_DEPTHS,
                f"model.family=imagenet with model.depth={self.depth}, which is not in Table 1; ImageNet nets are {_listed(IMAGENET_DEPTHS)} (override: model.depth=50)",
            )
        else:
            depths = OTHER_DEPTHS[self.kind]
            require(
                self.depth in depths and not self.residual,
                f"model.family={self.family} with model.depth={self.depth}, model.residual={self.residual}; it has {_listed(depths)} layers and no shortcuts (override: model.depth={depths[-1]} model.residual=false)",
            )


def _of_cifar(depth: int) -> bool:
    return 8 <= depth <= DEEPEST and (depth - 2) % 6 == 0


def _listed(depths: tuple[int, ...]) -> str:
    return ", ".join(map(str, depths))


def _marked(name: str, marks: list[str]) -> str:
    return f"{name} ({', '.join(marks)})" if marks else name
