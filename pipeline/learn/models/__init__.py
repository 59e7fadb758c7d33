"""The nets of "Deep Residual Learning for Image Recognition" (He et al. 2015) and their predecessors.

Needs torch alone; the predecessors are torchvision's, which is imported when one is built.
"""

from torch import nn

from pipeline.config.model import ModelConfig
from pipeline.learn.models.predecessors import build_predecessor
from pipeline.learn.models.resnet import CifarResNet, ImageNetResNet


def build_model(model: ModelConfig, num_classes: int, in_channels: int = 3) -> nn.Module:
    """A freshly initialised net, in training mode: (N, in_channels, H, W) -> (N, num_classes) logits."""
    if model.family == "cifar":
        return CifarResNet(model, num_classes, in_channels)
    if model.family == "imagenet":
        return ImageNetResNet(model, num_classes, in_channels)
    return build_predecessor(model, num_classes, in_channels)
