"""AlexNet, VGG and GoogLeNet, the systems that the paper is held against, as torchvision has them.

"<family>_small" is the same net with a stem and a classifier for images of CIFAR's size. Torchvision's AlexNet is that of
Krizhevsky 2014, its GoogLeNet has batch norm and no auxiliary classifiers here: neither is the challenge's own net.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

from pipeline.config.model import require_net
from pipeline.learn.models.resnet import InitFan, init_weights

Predecessor = Literal[
    "alexnet", "alexnet_small", "vgg", "vgg_small", "vgg_bn", "vgg_bn_small", "googlenet", "googlenet_small"
]
PREDECESSORS: tuple[str, ...] = get_args(Predecessor)
SMALL = "_small"
HIDDEN = {"alexnet": 1024, "vgg": 512, "vgg_bn": 512}  # units of a small net's hidden layers, of 4096


def build_predecessor(family: str, depth: int, *, init_fan: InitFan, num_classes: int, in_channels: int) -> nn.Module:
    """A freshly initialised net, in training mode; weights are drawn as the residual nets' are.

    (N, in_channels, H, W) -> (N, num_classes). Dropout is where its authors put it.

    Raises:
        ValueError: a depth that the family does not have.
    """
    name = family.removesuffix(SMALL)
    require_net(family, depth, False, None)
    # Imported here: residual nets need torch alone.
    from torchvision.models import VGG, AlexNet, GoogLeNet
    from torchvision.models.vgg import cfgs, make_layers

    if name == "alexnet":
        net: nn.Module = AlexNet(num_classes)
    elif name == "googlenet":
        net = GoogLeNet(num_classes, aux_logits=False, init_weights=False)
    else:
        layers = make_layers(cfgs[{11: "A", 13: "B", 16: "D", 19: "E"}[depth]], batch_norm=name == "vgg_bn")
        net = VGG(layers, num_classes, init_weights=False)
    if family.endswith(SMALL):
        _shrink(net, name, num_classes)
    _accept(net, name, in_channels)
    init_weights(net, init_fan)
    return net


def _shrink(net: nn.Module, name: str, num_classes: int) -> None:
    """For images of 32 pixels: no stride and no pooling before the map is small, a classifier of fewer units."""
    if name == "googlenet":
        from torchvision.models.googlenet import BasicConv2d

        net.conv1 = BasicConv2d(3, 64, kernel_size=3, padding=1)
        net.maxpool1, net.maxpool2 = nn.Identity(), nn.Identity()
        return
    side = 3 if name == "alexnet" else 1  # of the last map
    if name == "alexnet":
        assert isinstance(net.features, nn.Sequential)
        net.features[0] = nn.Conv2d(3, 64, kernel_size=3, padding=1)
    net.avgpool = nn.AdaptiveAvgPool2d(side)
    classifier, hidden = net.classifier, HIDDEN[name]
    assert isinstance(classifier, nn.Sequential)
    sizes = [(256 if name == "alexnet" else 512) * side**2, hidden, hidden, num_classes]
    linear = [at for at, layer in enumerate(classifier) if isinstance(layer, nn.Linear)]
    for at, into, out in zip(linear, sizes, sizes[1:], strict=False):
        classifier[at] = nn.Linear(into, out)


def _accept(net: nn.Module, name: str, in_channels: int) -> None:
    """Gives the first convolution as many input channels as the images have."""
    holder, at = (net.conv1, "conv") if name == "googlenet" else (net.features, "0")
    first = getattr(holder, at)
    if first.in_channels != in_channels:
        setattr(
            holder,
            at,
            nn.Conv2d(
                in_channels,
                first.out_channels,
                first.kernel_size,
                first.stride,
                first.padding,
                bias=first.bias is not None,
            ),
        )
