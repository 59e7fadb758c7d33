"""model.*: the net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.config.section import Section, require

# Two families of the paper: Table 1 (ImageNet) and Sec. 4.2 (CIFAR, 6n + 2 layers).
IMAGENET_DEPTHS = (18, 34, 50, 101, 152)
CIFAR_DEPTHS = (20, 32, 44, 56, 110, 1202)
OTHER_DEPTHS = {"alexnet": (8,), "vgg": (11, 13, 16, 19), "googlenet": (22,)}
NO_GLOBAL_POOL = ("alexnet", "vgg", "vgg_bn")  # they pool any map to one size, no fully convolutional form (Sec. 3.4)
LARGE_STEM = ("alexnet", "vgg", "vgg_bn", "googlenet")  # they halve the map until little is left of a small image


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """A residual or plain net of the paper, or one of those before it."""

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
    ]
    depth: int
    residual: bool  # of cifar and imagenet; the others have no shortcut
    shortcut: Literal["A", "B", "C"]
    stride_on: Literal["1x1", "3x3"]  # which convolution of a bottleneck has the stride: paper 1x1, torchvision 3x3
    shortcut_zeros: Literal["after", "around"]  # where option A pads: behind the channels, or half before them
    init_fan: Literal["fan_in", "fan_out"]  # of He's initialisation: Caffe's default, or torchvision's

    def __post_init__(self) -> None:
        if self.family not in ("cifar", "imagenet"):
            known = OTHER_DEPTHS[self.family.split("_")[0]]
            require(
                self.depth in known and not self.residual,
                f"model.family={self.family} with model.depth={self.depth}, model.residual={self.residual}; it has {', '.join(map(str, known))} layers and no shortcuts (override: model.depth={known[-1]} model.residual=false)",
            )
        elif self.family == "cifar":
            require(
                self.depth >= 8 and (self.depth - 2) % 6 == 0,
                f"model.depth={self.depth} is not 6n+2; the paper's CIFAR nets are {', '.join(map(str, CIFAR_DEPTHS))} (override: model.depth=56)",
            )
            require(
                self.shortcut != "C",
                "model.shortcut=C is defined for the ImageNet nets; CIFAR nets take A (the paper's) or B",
            )
        else:
            require(
                self.depth in IMAGENET_DEPTHS,
                f"model.depth={self.depth} is not in Table 1; ImageNet nets are {', '.join(map(str, IMAGENET_DEPTHS))} (override: model.depth=50)",
            )
