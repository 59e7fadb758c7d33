"""The nets of "Deep Residual Learning for Image Recognition" (He et al. 2015) and their predecessors.

Needs torch alone; the predecessors are torchvision's, which is imported when one is built.
"""

from collections.abc import Callable

from torch import nn

from pipeline.config.model import ModelConfig
from pipeline.learn.models.predecessors import build_predecessor
from pipeline.learn.models.resnet import CifarResNet, ImageNetResNet


def build_model(
    model: ModelConfig,
    num_classes: int,
    in_channels: int = 3,
    rois: int = 128,
    prepare: Callable[[nn.Module], object] = lambda net: None,
) -> nn.Module:
    """A freshly initialised net, in training mode: (N, in_channels, H, W) -> (N, num_classes) logits, or a `Detector`.

    Args:
        rois: regions of an image that a detector's second stage learns from.
        prepare: called with the net that classifies, before a detector is made of it.
    """
    net = _classifier(model.net, num_classes, in_channels)
    prepare(net)
    if not model.detects:
        return net
    from pipeline.learn.models.detectors import detector_of  # here, since classifiers need torch alone

    return detector_of(net, model, num_classes, in_channels, rois)


def _classifier(model: ModelConfig, num_classes: int, in_channels: int) -> nn.Module:
    if model.family == "cifar":
        return CifarResNet(model, num_classes, in_channels)
    if model.family == "imagenet":
        return ImageNetResNet(model, num_classes, in_channels)
    return build_predecessor(model, num_classes, in_channels)
