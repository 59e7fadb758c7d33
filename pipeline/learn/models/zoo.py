"""Every net the paper names, those it is held against among them, with the size and cost printed there."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from pipeline.config import CIFAR_DEPTHS, ModelConfig
from pipeline.learn.models.build import build_model
from pipeline.learn.models.predecessors import PREDECESSORS, SMALL
from pipeline.learn.models.resnet import Shortcut, StrideOn, default_shortcut


@dataclass(frozen=True, kw_only=True)
class Net:
    name: str  # see `ModelConfig.name`
    family: str
    depth: int
    residual: bool
    shortcut: Shortcut | None  # None: a plain net has none
    stride_on: StrideOn
    paper_params: str | None  # as printed in Table 6; None where the paper gives no figure for this very net
    paper_flops: str | None  # multiply-adds as printed in Table 1, likewise

    @property
    def small(self) -> bool:
        """Whether it takes images of CIFAR's size."""
        return self.family == "cifar" or self.family.endswith(SMALL)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images the paper feeds it."""
        return (3, 32, 32) if self.small else (3, 224, 224)

    def build(self) -> nn.Module:
        """The net with the paper's classes: 10 (CIFAR-10) or 1000 (ImageNet)."""
        return build_model(
            self.family,
            self.depth,
            residual=self.residual,
            shortcut=self.shortcut,
            stride_on=self.stride_on,
            num_classes=10 if self.small else 1000,
        )


# Table 6, column "# params".
_TABLE_6 = {20: "0.27M", 32: "0.46M", 44: "0.66M", 56: "0.85M", 110: "1.7M", 1202: "19.4M"}

# Table 1, row "FLOPs". Printed once for each depth: for 18 and 34 layers taken as the plain net's and option A's, which
# cost the same and are the first nets compared (Sec. 4.1; option B of 34 layers would round to 3.7).
_TABLE_1_FLOPS = {18: "1.8×10^9", 34: "3.6×10^9", 50: "3.8×10^9", 101: "7.6×10^9", 152: "11.3×10^9"}

# Sec. 3.3 and 4.1. The first counts the convolutions alone, the second the classifier too.
_VGG_FLOPS = {"VGG-16": "15.3×10^9", "VGG-19": "19.6×10^9"}


def _net(
    family: str,
    depth: int,
    *,
    residual: bool = True,
    shortcut: Shortcut | None = None,
    stride_on: StrideOn = "1x1",
) -> Net:
    default = default_shortcut(family, depth) if family not in PREDECESSORS else None
    option = (shortcut or default) if residual else None
    wiring = {"family": family, "shortcut": option or "A", "stride_on": stride_on}  # a plain net has no option
    name = ModelConfig(depth=depth, residual=residual, **wiring).name  # type: ignore[arg-type]
    as_printed = option in (None, default) and stride_on == "1x1"
    return Net(
        name=name,
        family=family,
        depth=depth,
        residual=residual,
        shortcut=option,
        stride_on=stride_on,
        paper_params=_TABLE_6.get(depth) if family == "cifar" and residual else None,
        paper_flops=_VGG_FLOPS.get(name)
        or (_TABLE_1_FLOPS.get(depth) if family == "imagenet" and as_printed else None),
    )


_OPTIONS: tuple[Shortcut, ...] = ("A", "B", "C")

NETS: tuple[Net, ...] = (
    *(_net("cifar", depth, residual=False) for depth in CIFAR_DEPTHS if depth <= 110),  # Fig. 6 left, Sec. 4.2
    *(_net("cifar", depth) for depth in CIFAR_DEPTHS),  # Table 6
    *(_net("imagenet", depth, residual=False) for depth in (18, 34)),  # Table 2
    *(_net("imagenet", depth, shortcut=option) for depth in (18, 34) for option in _OPTIONS),  # Tables 2 and 3
    *(_net("imagenet", depth) for depth in (50, 101, 152)),  # Table 3
    *(_net("imagenet", depth, stride_on="3x3") for depth in (50, 101, 152)),  # torchvision's, for comparison
    _net("alexnet", 8, residual=False),
    _net("googlenet", 22, residual=False),
    *(_net(family, depth, residual=False) for family in ("vgg", "vgg_bn") for depth in (16, 19)),
    _net("alexnet_small", 8, residual=False),
    _net("googlenet_small", 22, residual=False),
    *(_net(family, depth, residual=False) for family in ("vgg_small", "vgg_bn_small") for depth in (16, 19)),
)
