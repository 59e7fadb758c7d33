"""AlexNet, VGG and GoogLeNet, with which the paper compares its nets, as torchvision builds them.

"<family>_small" is the same net with a stem and a classifier for images of CIFAR's size. Torchvision's AlexNet is that of
Krizhevsky 2014; its GoogLeNet has batch norm, and here no auxiliary classifiers. Neither is the challenge's own net.
"""

from __future__ import annotations

from torch import nn

from pipeline.config.model import ModelConfig
from pipeline.learn.models.resnet import init_weights

VGG_CONFIGURATIONS = {11: "A", 13: "B", 16: "D", 19: "E"}  # depth -> torchvision's name
HIDDEN = {"alexnet": 1024, "vgg": 512}  # units of a small net's hidden layers; the large nets have 4096


def build_predecessor(model: ModelConfig, num_classes: int, in_channels: int) -> nn.Module:
    """A freshly initialised net, in training mode; weights are drawn as the residual nets' are.

    (N, in_channels, H, W) -> (N, num_classes). Dropout is where the net's authors put it.
    """
    # Imported here: residual nets need torch alone.
    from torchvision.models import VGG, AlexNet, GoogLeNet
    from torchvision.models.vgg import cfgs, make_layers

    if model.kind == "alexnet":
        net: nn.Module = AlexNet(num_classes)
    elif model.kind == "googlenet":
        net = GoogLeNet(num_classes, aux_logits=False, init_weights=False)
    else:
        layers = make_layers(cfgs[VGG_CONFIGURATIONS[model.depth]], batch_norm="bn" in model.family)
        net = VGG(layers, num_classes, init_weights=False)
    if model.small:
        _shrink(net, model.kind, num_classes)
    _accept(net, model.kind, in_channels)
    init_weights(net, model)
    return net


def _shrink(net: nn.Module, kind: str, num_classes: int) -> None:
    """For images of 32 pixels: no stride and no pooling before the map is small, a classifier of fewer units."""
    if kind == "googlenet":
        from torchvision.models.googlenet import BasicConv2d

        net.conv1 = BasicConv2d(3, 64, kernel_size=3, padding=1)
        net.maxpool1, net.maxpool2 = nn.Identity(), nn.Identity()
        return
    side = 3 if kind == "alexnet" else 1  # of the last map
    if kind == "alexnet":
        assert isinstance(net.features, nn.Sequential)
        net.features[0] = nn.Conv2d(3, 64, kernel_size=3, padding=1)
    net.avgpool = nn.AdaptiveAvgPool2d(side)
    classifier, hidden = net.classifier, HIDDEN[kind]
    assert isinstance(classifier, nn.Sequential)
    sizes = [(256 if kind == "alexnet" else 512) * side**2, hidden, hidden, num_classes]
    linear = [at for at, layer in enumerate(classifier) if isinstance(layer, nn.Linear)]
    for at, into, out in zip(linear, sizes, sizes[1:], strict=False):
        classifier[at] = nn.Linear(into, out)


def _accept(net: nn.Module, kind: str, in_channels: int) -> None:
    """Gives the first convolution as many input channels as the images have."""
    holder, place = (net.conv1, "conv") if kind == "googlenet" else (net.features, "0")
    old = getattr(holder, place)
    if old.in_channels != in_channels:
        bias = old.bias is not None
        new = nn.Conv2d(in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=bias)
        setattr(holder, place, new)
