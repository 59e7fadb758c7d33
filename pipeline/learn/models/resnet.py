"""Residual and plain nets: the ImageNet family (Table 1) and the CIFAR family (Sec. 4.2).

Block, layer and state-dict names are torchvision's, so ImageNet weights load both ways. N images, C channels, H x W
pixels, K classes. Nets take (N, C, H, W) floating-point images and return (N, K) logits of the same dtype.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.model import ModelConfig


class PadShortcut(nn.Module):
    """Option A: identity, subsampled when the map shrinks, with zeros for the added channels (Sec. 3.3).

    (N, C, H, W) -> (N, C + extra, ceil(H / stride), ceil(W / stride)); no parameters.

    The paper pads "extra zero entries" and does not say where. zeros="after", behind the channels, is the plain reading
    and what FAIR's fb.resnet.torch does; "around", half before and half behind, is common in public CIFAR nets. With
    random weights the two nets have the same distribution, since they differ by a permutation of channels. Trained
    weights fit only one of them.
    """

    def __init__(self, extra: int, stride: int, zeros: str = "after") -> None:
        super().__init__()
        before = extra // 2 if zeros == "around" else 0
        self.padding = (0, 0, 0, 0, before, extra - before)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        # The slice is a view, so the pad is the only copy.
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


def _conv(in_planes: int, planes: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Size-preserving convolution at stride 1; no bias, since batch norm follows each (Sec. 3.4)."""
    return nn.Conv2d(in_planes, planes, kernel, stride=stride, padding=kernel // 2, bias=False)


def _shortcut(in_planes: int, out_planes: int, stride: int, model: ModelConfig) -> nn.Module | None:
    """The module on a block's shortcut; None for the bare identity or, in a plain net, for no shortcut."""
    same_shape = stride == 1 and in_planes == out_planes
    if not model.residual or (same_shape and model.shortcut != "C"):
        return None
    if model.shortcut == "A":
        return PadShortcut(out_planes - in_planes, stride, model.shortcut_zeros)
    return nn.Sequential(_conv(in_planes, out_planes, 1, stride), nn.BatchNorm2d(out_planes))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (Fig. 5 left): (N, in_planes, H, W) -> (N, planes, ceil(H/stride), ceil(W/stride))."""

    expansion = 1

    def __init__(self, in_planes: int, planes: int, stride: int, model: ModelConfig) -> None:
        super().__init__()
        self.residual = model.residual
        self.conv1 = _conv(in_planes, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(in_planes, planes, stride, model)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.residual:
            out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 (Fig. 5 right): (N, in_planes, H, W) -> (N, 4 planes, ceil(H/stride), ceil(W/stride))."""

    expansion = 4

    def __init__(self, in_planes: int, planes: int, stride: int, model: ModelConfig) -> None:
        super().__init__()
        out_planes = planes * self.expansion
        # The authors' released nets subsample in the first 1x1; torchvision ("v1.5") in the 3x3, which costs more.
        first, second = (stride, 1) if model.stride_on == "1x1" else (1, stride)
        self.residual = model.residual
        self.conv1 = _conv(in_planes, planes, 1, first)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv(planes, planes, 3, second)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = _conv(planes, out_planes, 1)
        self.bn3 = nn.BatchNorm2d(out_planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_planes, out_planes, stride, model)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.residual:
            out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


Block = type[BasicBlock] | type[Bottleneck]

# Table 1: depth -> block and the blocks of conv2_x, conv3_x, conv4_x, conv5_x.
TABLE_1: dict[int, tuple[Block, tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


def _stages(block: Block, num_blocks: Sequence[int], width: int, model: ModelConfig) -> list[nn.Sequential]:
    """Stages of `width`, 2 `width`, ... planes; each but the first halves the map in its first block."""
    stages, in_planes = [], width
    for index, count in enumerate(num_blocks):
        planes, blocks = width * 2**index, nn.Sequential()
        for position in range(count):
            blocks.append(block(in_planes, planes, 2 if index > 0 and position == 0 else 1, model))
            in_planes = planes * block.expansion
        stages.append(blocks)
    return stages


def init_weights(net: nn.Module, model: ModelConfig) -> None:
    """Draws every weight as in [13]: normal, mean 0, std sqrt(2 / fan); biases 0; batch norm as model.norm_scale says.

    [13] derives fan-in (forward pass, its Eqn. 10) and fan-out (backward) and finds either sufficient. The paper was
    trained with Caffe, whose "msra" filler takes fan-in by default; torchvision takes fan-out. The two differ where a
    stride-2 block changes the number of planes.
    """
    for module in net.modules():
        # On the meta device there is nothing to draw, and trying would import torch's compiler for seconds.
        if isinstance(module, nn.Conv2d | nn.Linear) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode=model.init_fan, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    # Scales come after all weights, so that the seed draws the same weights whatever the scales are.
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and model.norm_scale == "uniform" and not module.weight.is_meta:
            nn.init.uniform_(module.weight)
        if isinstance(module, BasicBlock | Bottleneck) and model.norm_scale == "zero_last":
            nn.init.zeros_((module.bn3 if isinstance(module, Bottleneck) else module.bn2).weight)


class CifarResNet(nn.Module):
    """The 6n + 2 layer net of Sec. 4.2: a 3x3 convolution, three stages of 16/32/64 planes, average pool, fc.

    Made for 32x32 (maps of 32, 16, 8); the pool is global, so any size of at least 1x1 works.
    """

    def __init__(self, model: ModelConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, 16, 3)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1, self.layer2, self.layer3 = _stages(BasicBlock, [(model.depth - 2) // 6] * 3, 16, model)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)
        init_weights(self, model)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


class ImageNetResNet(nn.Module):
    """A net of Table 1: 7x7 convolution and max pool, four stages of 64/128/256/512 planes, average pool, fc.

    Made for 224x224 (maps of 56, 28, 14, 7). The pool is global: at other sizes, the logits are the mean over
    positions of the fully convolutional form that Sec. 3.4 tests with.
    """

    def __init__(self, model: ModelConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        block, num_blocks = TABLE_1[model.depth]
        self.conv1 = _conv(in_channels, 64, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = _stages(block, num_blocks, 64, model)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, num_classes)
        init_weights(self, model)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))
