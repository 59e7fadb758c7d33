"""model.*: the net. The rules about depths and families stand here alone; this module imports nothing but the standard library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.config.section import Section, require

# Two families of the paper: Table 1 (ImageNet) and Sec. 4.2 (CIFAR, 6n + 2 layers).
IMAGENET_DEPTHS = (18, 34, 50, 101, 152)
CIFAR_DEPTHS = (20, 32, 44, 56, 110, 1202)
OTHER_DEPTHS = {"alexnet": (8,), "vgg": (11, 13, 16, 19), "googlenet": (22,)}
NO_GLOBAL_POOL = ("alexnet", "vgg", "vgg_bn")  # they pool any map to one size, no fully convolutional form (Sec. 3.4)
LARGE_STEM = ("alexnet", "vgg", "vgg_bn", "googlenet")  # they halve the map until little is left of a small image
_PREDECESSORS = {"vgg": "VGG", "alexnet": "AlexNet", "googlenet": "GoogLeNet"}
_USUAL_DEPTH = {"cifar": 20, "imagenet": 18, "alexnet": 8, "vgg": 16, "googlenet": 22}


def family_defaults(family: str) -> dict[str, Any]:
    """What a net of this family is unless the configuration says otherwise; nothing of an unknown family.

    Option A is the paper's for CIFAR (Sec. 4.2), option B for 50 layers and more (Table 1).
    """
    kind = family.split("_")[0]
    if kind not in _USUAL_DEPTH:
        return {}
    shortcut = "B" if kind == "imagenet" else "A"
    return {"depth": _USUAL_DEPTH[kind], "residual": kind not in OTHER_DEPTHS, "shortcut": shortcut}


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """A residual or plain net of the paper, or one of those before it.

    vgg needs a learning rate below 0.1 (recipe.lr=0.01); vgg_bn has batch norm. alexnet is that of Krizhevsky 2014
    ("one weird trick"), googlenet has batch norm and no auxiliary classifiers, both as torchvision builds them.
    The _small nets have a small stem and classifier, for images of 32 pixels.
    """

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
    depth: int  # the family decides the default of this key and the next two: `family_defaults`
    residual: bool  # of cifar and imagenet; the others have no shortcut
    shortcut: Literal["A", "B", "C"]
    stride_on: Literal["1x1", "3x3"] = "1x1"  # which convolution of a bottleneck has the stride; torchvision's: 3x3
    shortcut_zeros: Literal["after", "around"] = "after"  # option A pads behind the channels, or half before them
    init_fan: Literal["fan_in", "fan_out"] = "fan_in"  # of He's initialisation: Caffe's default, or torchvision's

    @property
    def name(self) -> str:
        """The net's one display name, as the paper or its authors write it: ResNet-56, plain-56, ResNet-34 (B), VGG-16 (BN).

        In brackets stands what the number of layers leaves open: the option of 18 and 34 layers (Tables 2 and 3), an
        option other than the paper's, torchvision's stride ("v1.5"), a CIFAR net as deep as one of Table 1.
        """
        kind, *marks = self.family.split("_")
        if kind in _PREDECESSORS:
            written = _PREDECESSORS[kind] + (f"-{self.depth}" if kind == "vgg" else "")
            return _marked(written, ["BN" if mark == "bn" else mark for mark in marks])
        bottleneck = kind == "imagenet" and self.depth >= 50
        if kind == "cifar" and self.depth in IMAGENET_DEPTHS:
            marks.append("CIFAR")
        if self.residual and (self.shortcut != ("B" if bottleneck else "A") or (kind == "imagenet" and not bottleneck)):
            marks.append(self.shortcut)
        if bottleneck and self.stride_on == "3x3":
            marks.append("v1.5")
        return _marked(f"{'ResNet' if self.residual else 'plain'}-{self.depth}", marks)

    def __post_init__(self) -> None:
        require_net(self.family, self.depth, self.residual, self.shortcut)


def require_net(family: str, depth: int, residual: bool, shortcut: str | None) -> None:
    """Raises ValueError unless the family has a net of this depth with these shortcuts."""
    if family == "cifar":
        require(
            depth >= 8 and (depth - 2) % 6 == 0,
            f"model.depth={depth} is not 6n+2; the paper's CIFAR nets are {', '.join(map(str, CIFAR_DEPTHS))} (override: model.depth=56)",
        )
        require(
            shortcut != "C", "model.shortcut=C is defined for the ImageNet nets; CIFAR nets take A (the paper's) or B"
        )
    elif family == "imagenet":
        require(
            depth in IMAGENET_DEPTHS,
            f"model.depth={depth} is not in Table 1; ImageNet nets are {', '.join(map(str, IMAGENET_DEPTHS))} (override: model.depth=50)",
        )
    else:
        depths = OTHER_DEPTHS[family.split("_")[0]]
        require(
            depth in depths and not residual,
            f"model.family={family} with model.depth={depth}, model.residual={residual}; it has {', '.join(map(str, depths))} layers and no shortcuts (override: model.depth={depths[-1]} model.residual=false)",
        )


def _marked(name: str, marks: list[str]) -> str:
    return f"{name} ({', '.join(marks)})" if marks else name
