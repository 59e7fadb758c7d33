"""Every net that the paper names, its predecessors among them, with the size and cost printed there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from pipeline.config.model import CIFAR_DEPTHS, ModelConfig, family_defaults
from pipeline.learn.models import build_model

# Table 6, column "# params".
_TABLE_6 = {20: "0.27M", 32: "0.46M", 44: "0.66M", 56: "0.85M", 110: "1.7M", 1202: "19.4M"}

# Table 1, row "FLOPs", which has one figure a depth. For 18 and 34 layers it is taken as that of the plain net and of
# option A, which cost the same and are the first nets compared (Sec. 4.1); option B of 34 layers would round to 3.7.
_TABLE_1 = {18: "1.8×10^9", 34: "3.6×10^9", 50: "3.8×10^9", 101: "7.6×10^9", 152: "11.3×10^9"}

# Sec. 3.3 and 4.1. The first counts the convolutions alone, the second the classifier too.
_VGG_FLOPS = {"VGG-16": "15.3×10^9", "VGG-19": "19.6×10^9"}


@dataclass(frozen=True)
class Net:
    model: ModelConfig

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def shortcut(self) -> str | None:
        """The option of Sec. 4.1; None for a plain net."""
        return self.model.shortcut if self.model.residual else None

    @property
    def paper_params(self) -> str | None:
        """As Table 6 prints it; None where the paper gives no figure for this very net."""
        return _TABLE_6.get(self.model.depth) if self.model.family == "cifar" and self.model.residual else None

    @property
    def paper_flops(self) -> str | None:
        """Multiply-adds as printed in Table 1 or the text, likewise."""
        model = self.model
        as_printed = self.shortcut in (None, "B" if model.bottleneck else "A") and model.stride_on == "1x1"
        if model.family == "imagenet" and as_printed:
            return _TABLE_1[model.depth]
        return _VGG_FLOPS.get(self.name)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that the paper feeds it."""
        return (3, 32, 32) if self.model.small else (3, 224, 224)

    def build(self) -> nn.Module:
        """The net with the paper's classes: 10 (CIFAR-10) or 1000 (ImageNet)."""
        return build_model(self.model, 10 if self.model.small else 1000)


def _net(family: str, depth: int, **choices: Any) -> Net:
    return Net(ModelConfig(**{**family_defaults(family), "family": family, "depth": depth, **choices}))


NETS: tuple[Net, ...] = (
    *(_net("cifar", depth, residual=False) for depth in CIFAR_DEPTHS if depth <= 110),  # Fig. 6 left, Sec. 4.2
    *(_net("cifar", depth) for depth in CIFAR_DEPTHS),  # Table 6
    *(_net("imagenet", depth, residual=False) for depth in (18, 34)),  # Table 2
    *(_net("imagenet", depth, shortcut=option) for depth in (18, 34) for option in "ABC"),  # Tables 2 and 3
    *(_net("imagenet", depth) for depth in (50, 101, 152)),  # Table 3
    *(_net("imagenet", depth, stride_on="3x3") for depth in (50, 101, 152)),  # torchvision's, for comparison
    _net("alexnet", 8),
    _net("googlenet", 22),
    *(_net(family, depth) for family in ("vgg", "vgg_bn") for depth in (16, 19)),
    _net("alexnet_small", 8),
    _net("googlenet_small", 22),
    *(_net(family, depth) for family in ("vgg_small", "vgg_bn_small") for depth in (16, 19)),
)
