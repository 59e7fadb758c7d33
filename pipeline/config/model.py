"""model.*: the net. Which nets there are is stated and checked here alone, with the standard library alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pipeline.config.section import Positive, Section, require

# Two families of the paper: Table 1 (ImageNet) and Sec. 4.2 (CIFAR, 6n + 2 layers).
IMAGENET_DEPTHS = (18, 34, 50, 101, 152)
CIFAR_DEPTHS = (20, 32, 44, 56, 110, 1202)
DEEPEST = 9_998  # a CIFAR net of so many layers takes minutes to build
OTHER_DEPTHS = {"alexnet": (8,), "vgg": (11, 13, 16, 19), "googlenet": (22,)}
NO_GLOBAL_POOL = ("alexnet", "vgg", "vgg_bn")  # they pool any map to one size, so have no fully convolutional form
LARGE_STEM = ("alexnet", "vgg", "vgg_bn", "googlenet")  # they halve the map until little is left of a small image
_PREDECESSORS = {"vgg": "VGG", "alexnet": "AlexNet", "googlenet": "GoogLeNet"}
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


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """A residual or plain net of the paper, or one of its predecessors; `build_model` builds it.

    vgg needs a learning rate below 0.1 (recipe.lr=0.01); vgg_bn has batch norm. alexnet is that of Krizhevsky 2014
    ("one weird trick"), googlenet has batch norm and no auxiliary classifiers, both as torchvision builds them.
    The _small nets have a small stem and classifier, for images of 32 pixels.
    """

    section: ClassVar[str] = "model"

    # cifar and imagenet: the paper's residual and plain nets (Sec. 4.2, Table 1); the others are its predecessors.
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
    ] = "cifar"
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
    def kind(self) -> str:
        """The family without its variants: vgg of vgg_bn_small."""
        return self.family.split("_")[0]

    @property
    def small(self) -> bool:
        """Whether the net is made for images of CIFAR's size."""
        return self.family == "cifar" or self.family.endswith("_small")

    @property
    def bottleneck(self) -> bool:
        return self.family == "imagenet" and self.depth >= 50

    @property
    def name(self) -> str:
        """The net's one display name, as the paper or its authors write it: ResNet-56, plain-56, ResNet-34 (B), VGG-16 (BN).

        In brackets stands what the number of layers leaves open: the option of 18 and 34 layers (Tables 2 and 3), an
        option other than the paper's, torchvision's stride ("v1.5"), a CIFAR net as deep as one of Table 1.
        """
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

    def check(self) -> None:
        require(
            self.norm_scale != "zero_last" or self.residual,
            f"model.norm_scale=zero_last with {self.name}, whose layers would pass no signal without shortcuts; choose one or uniform",
        )
        if self.family == "cifar":
            require(
                8 <= self.depth <= DEEPEST and (self.depth - 2) % 6 == 0,
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


def _listed(depths: tuple[int, ...]) -> str:
    return ", ".join(map(str, depths))


def _marked(name: str, marks: list[str]) -> str:
    return f"{name} ({', '.join(marks)})" if marks else name
