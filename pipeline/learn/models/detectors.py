"""Faster R-CNN over the nets of this package, of torchvision's parts (Sec. 4.3 and appendix A).

`faster_rcnn` has the C4 form: the convolutions up to the last stage make one map, on which regions are proposed, and the last
stage sees each region (for VGG-16, its fully connected layers do). `faster_rcnn_fpn` has a feature pyramid (Lin et al. 2017).
Batch norm keeps the statistics, scales and shifts that it starts with, as appendix A has it.

Axes: B images, C channels, H x W pixels. Class 0 is the background; classes of the data set begin at 1 inside, at 0 outside.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from pipeline.config.model import ModelConfig

SCALES = 4  # anchors have the side model.anchor, and 2, 4 and 8 times as much; in a pyramid each level has its own
RATIOS = (0.5, 1.0, 2.0)  # height over width of anchors (Ren et al. 2015)
MOST_FOUND = 100  # objects in an image: what COCO's metric counts
LEAST_SCORE = 0.05  # of an object
REGION = 14  # side of a region's map before a residual net's last stage, which halves it
VGG_REGION = 7
PROPOSALS, SMALL_PROPOSALS = (
    300,
    100,
)  # regions of a test image (Ren et al. 2015); of small nets, whose images show little
PYRAMID_PROPOSALS = 1000  # of each level (Lin et al. 2017)
HIDDEN = 1024  # width of the layers that see a region of a pyramid
PYRAMID, SMALL_PYRAMID = 256, 64  # channels of a feature pyramid; of small nets
MULTIPLE = 32  # pixels; images are padded to sides that it divides, so that every map has a whole scale


class Detector(FasterRCNN):
    """Training: images and targets -> losses by name. Evaluation: images -> boxes, labels and scores of each.

    Images are normalised (C, H, W) float32 of any sizes. A target holds boxes (n, 4) float32 in pixels, labels (n,) int64 from 1, and
    seeds, two whole numbers: of the draws of anchors and of regions.
    """

    num_classes: int  # of the data set
    new_weights: frozenset[str]  # parameters that its net lacks as a classifier
    small: bool  # whether its net is made for images of CIFAR's size

    def train(self, mode: bool = True) -> Detector:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Any]] | None = None) -> Any:
        if targets is not None:
            for position, sampler in enumerate((self.rpn.fg_bg_sampler, self.roi_heads.fg_bg_sampler)):
                sampler.seeds = [target["seeds"][position] for target in targets]
            targets = [{key: target[key] for key in ("boxes", "labels")} for target in targets]
        return super().forward(list(images), targets)


class SeededSampler(BalancedPositiveNegativeSampler):
    """Draws each image's anchors or regions from a seed of its own, so that no device, rank or restart changes them.

    Where images differ in size, ranks do: anchors on the padding are among those drawn from, and a rank pads its own images.
    """

    seeds: Sequence[int] = ()

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        positive, negative = [], []
        for seed, matched in zip(self.seeds, matched_idxs, strict=True):
            with torch.random.fork_rng(devices=[]):  # dropout draws from the generator, too
                torch.default_generator.manual_seed(seed)
                (ours,), (theirs,) = super().__call__([matched.cpu()])  # since a GPU would draw others
            positive.append(ours.to(matched.device))
            negative.append(theirs.to(matched.device))
        return positive, negative


class _Anchors(AnchorGenerator):
    """In float32 whatever the maps have: bfloat16 would put them a pixel or two beside their places."""

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        return super().forward(image_list, [each.float() for each in feature_maps])


class _Coder(BoxCoder):
    """Boxes in float32 from offsets of any type, for the same reason."""

    def decode(self, rel_codes: Tensor, boxes: list[Tensor]) -> Tensor:
        return super().decode(rel_codes.float(), boxes)


class _Predictor(FastRCNNPredictor):
    """Scores in float32, so that few of them are equal."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, deltas = super().forward(x)
        return scores.float(), deltas


class _AsGiven(GeneralizedRCNNTransform):
    """Batches images that have their size and are normalised."""

    def __init__(self, channels: int) -> None:
        super().__init__(0, 0, [0.0] * channels, [1.0] * channels, size_divisible=MULTIPLE)

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


class _Body(nn.Sequential):
    """Layers whose number of channels torchvision asks for."""

    def __init__(self, layers: OrderedDict[str, nn.Module]) -> None:
        super().__init__(layers)
        self.out_channels = _width(self)


class _Pool(MultiScaleRoIAlign):
    """Maps of all regions, at the scale of the padded images.

    torchvision takes the scale of the maps from the first images without their padding, rounds it to a power of two, and keeps
    it. That is twice the right one where padding makes sides more than 1.41 times as long, as from 33 to 64 pixels.
    """

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        padded = [(_padded(height), _padded(width)) for height, width in image_shapes]
        return super().forward(x, boxes, padded)


def _padded(side: int) -> int:
    return -(-side // MULTIPLE) * MULTIPLE


class _ContextPool(_Pool):
    """Maps of all regions, and behind them those of the B whole images."""

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        self.counts = [len(each) for each in boxes]
        whole = [
            each.new_tensor([[0, 0, width, height]]) for each, (height, width) in zip(boxes, image_shapes, strict=True)
        ]
        return torch.cat([super().forward(x, boxes, image_shapes), super().forward(x, whole, image_shapes)])


class _ContextHead(nn.Module):
    """Puts what the head sees of the whole image beside what it sees of each region (appendix B): (R + B, ...) -> (R, 2 D)."""

    def __init__(self, head: nn.Module, pool: _ContextPool) -> None:
        super().__init__()
        self.head, self._pool = head, (pool,)  # a tuple hides it, since it is the heads' already

    def forward(self, maps: Tensor) -> Tensor:
        counts = self._pool[0].counts
        regions, context = self.head(maps).split([sum(counts), len(counts)])
        return torch.cat([regions, context.repeat_interleave(torch.tensor(counts, device=maps.device), 0)], 1)


class _Pooled(nn.Sequential):
    """Layers, then the mean over the map: (R, C, h, w) -> (R, D)."""

    def forward(self, regions: Tensor) -> Tensor:
        return super().forward(regions).mean((2, 3))


def detector_of(net: nn.Module, model: ModelConfig, num_classes: int, in_channels: int, rois: int = 128) -> Detector:
    """A detector in training mode that has taken over the layers of `net`; the new ones are freshly initialised.

    Args:
        net: the classifier that `model.net` describes.
        rois: regions of an image that the second stage learns from.
    """
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    parts = _vgg_parts(net) if model.kind == "vgg" else _residual_parts(net)
    body, region = parts.body, parts.region
    head, width = parts.head, parts.width
    small, pyramid = model.small, model.family.endswith("_fpn")
    names, anchors = ["0"], [tuple(model.anchor * 2**scale for scale in range(SCALES))]
    if pyramid:
        body, names = _pyramid(body, parts.head, SMALL_PYRAMID if small else PYRAMID)
        anchors = [(model.anchor * 2**level,) for level in range(len(names) + 1)]
        head, region, width = (
            TwoMLPHead((SMALL_PYRAMID if small else PYRAMID) * VGG_REGION**2, HIDDEN),
            VGG_REGION,
            HIDDEN,
        )
    pool = _Pool(names, region, 2)
    if model.context:
        pool = _ContextPool(names, region, 2)
        head, width = _ContextHead(head, pool), 2 * width
    with torch.device("cpu"):  # anchors are no weights, which a net on the meta device gets later
        generator = _Anchors(tuple(anchors), (RATIOS,) * len(anchors))
    detector = Detector(
        body,
        rpn_anchor_generator=generator,
        box_roi_pool=pool,
        box_head=head,
        box_predictor=_Predictor(width, num_classes + 1),
        rpn_post_nms_top_n_test=PYRAMID_PROPOSALS if pyramid else SMALL_PROPOSALS if small else PROPOSALS,
        box_score_thresh=LEAST_SCORE,
        box_detections_per_img=MOST_FOUND,
        box_batch_size_per_image=rois,
        min_size=1,
    )
    detector.num_classes, detector.small = num_classes, small
    taken = {id(parameter) for parameter in net.parameters()}
    detector.new_weights = frozenset(name for name, p in detector.named_parameters() if id(p) not in taken)
    detector.transform = _AsGiven(in_channels)
    for part in (detector.rpn, detector.roi_heads):
        usual = part.fg_bg_sampler
        part.fg_bg_sampler = SeededSampler(usual.batch_size_per_image, usual.positive_fraction)
        part.box_coder = _Coder(part.box_coder.weights)
    return detector.train()


class _Parts(NamedTuple):
    """A net's layers as the C4 form divides them."""

    body: nn.Module  # makes the map of an image
    head: nn.Module  # sees a region's map
    width: int  # of the head's output
    region: int  # side of a region's map


def _residual_parts(net: Any) -> _Parts:
    """The head is the last stage."""
    layers = OrderedDict((name, layer) for name, layer in net.named_children() if name not in ("avgpool", "fc"))
    last = max(name for name in layers if name.startswith("layer"))
    head = _Pooled(OrderedDict({last: layers.pop(last)}))
    return _Parts(_Body(layers), head, net.fc.in_features, REGION)


def _vgg_parts(net: Any) -> _Parts:
    """The body is all convolutions without the last pooling, the head the hidden fully connected layers."""
    body = _Body(OrderedDict(features=net.features[:-1]))
    hidden = net.classifier[:-1]
    head = nn.Sequential(OrderedDict(avgpool=net.avgpool, flatten=nn.Flatten(), classifier=hidden))
    width = [layer.out_features for layer in hidden if isinstance(layer, nn.Linear)][-1]
    return _Parts(body, head, width, VGG_REGION)


def _pyramid(body: nn.Module, head: nn.Module, channels: int) -> tuple[nn.Module, list[str]]:
    """A residual net's stages under a feature pyramid, and the names of the maps that regions are cut from."""
    stages = OrderedDict((*body.named_children(), *head.named_children()))
    names = [name for name in stages if name.startswith("layer")]
    widths = [_width(stages[name]) for name in names]
    taken = {name: str(level) for level, name in enumerate(names)}
    whole = nn.Sequential(stages)
    pyramid = BackboneWithFPN(whole, taken, widths, channels, extra_blocks=LastLevelMaxPool())
    return pyramid, [*taken.values()]


def _width(layers: nn.Module) -> int:
    """Channels of the last convolution that is no shortcut's projection."""
    named = [(name, m) for name, m in layers.named_modules() if isinstance(m, nn.Conv2d)]
    return [m.out_channels for name, m in named if "downsample" not in name.split(".")][-1]
