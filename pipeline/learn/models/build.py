"""One way to build every net that the configuration can name."""

from __future__ import annotations

from torch import nn

from pipeline.learn.models.predecessors import PREDECESSORS, build_predecessor
from pipeline.learn.models.resnet import InitFan, Shortcut, ShortcutZeros, StrideOn, build_resnet


def build_model(
    family: str,
    depth: int,
    *,
    residual: bool = True,
    shortcut: Shortcut | None = None,
    stride_on: StrideOn = "1x1",
    shortcut_zeros: ShortcutZeros = "after",
    init_fan: InitFan = "fan_in",
    num_classes: int,
    in_channels: int = 3,
) -> nn.Module:
    """A freshly initialised net, in training mode: (N, in_channels, H, W) -> (N, num_classes) logits.

    Args:
        family: cifar or imagenet for `build_resnet`, which reads all the rest; else one of `PREDECESSORS`, for which
            residual, shortcut, stride_on and shortcut_zeros say nothing.
    Raises:
        ValueError: a net that there is not.
    """
    if family in PREDECESSORS:
        return build_predecessor(family, depth, init_fan=init_fan, num_classes=num_classes, in_channels=in_channels)
    return build_resnet(
        family,
        depth,
        residual=residual,
        shortcut=shortcut,
        stride_on=stride_on,
        shortcut_zeros=shortcut_zeros,
        init_fan=init_fan,
        num_classes=num_classes,
        in_channels=in_channels,
    )
