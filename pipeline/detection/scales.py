"""Maps of images at several scales, and regions that are seen at the two that suit their size (appendix B).

The paper proposes regions at one scale. A region's two scales are neighbours, the one at which its area comes closest to that
of the images that the net learned to classify, and the other one next to it; the last stage sees both, and the larger of each
two numbers counts (maxout, Ren et al. 2016, "Object detection networks on convolutional feature maps").

B images, R regions, D numbers of a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.learn.input.scenes import scaled

CLASSIFIED, SMALL_CLASSIFIED = 224, 32  # side of an image that the net, or a small net, learned to classify


class Look(NamedTuple):
    """The images at one scale."""

    maps: dict[str, Tensor]  # of the backbone
    sizes: list[tuple[int, int]]  # height and width of each image
    factors: list[float]  # of each image's side


def looks_at(
    detector: Any, images: Sequence[Tensor], scales: Sequence[int], larger: Sequence[Tensor] | None = None
) -> tuple[Any, dict[str, Tensor], list[Look]]:
    """The batch of images as they are, its maps, and the looks that regions are seen at.

    Args:
        images: (C, h, w) normalised.
        scales: shorter sides in pixels, less for long images (see `scaled`); none for the images as they are.
        larger: the same images with more pixels, of which scales above the images' own are made.
    """
    batch, maps = _maps(detector, images)
    if not scales:
        return batch, maps, [Look(maps, batch.image_sizes, [1.0] * len(images))]
    looks = []
    for side in sorted(scales):
        sizes = [scaled(image.shape[1], image.shape[2], side) for image in images]
        factors = [max(size) / max(image.shape[1:]) for size, image in zip(sizes, images, strict=True)]
        resized = [
            _resized(image if factor <= 1 else sharper, size)
            for image, sharper, factor, size in zip(images, larger or images, factors, sizes, strict=True)
        ]
        batched, theirs = _maps(detector, resized)
        looks.append(Look(theirs, batched.image_sizes, factors))
    return batch, maps, looks


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


def _maps(detector: Any, images: Sequence[Tensor]) -> tuple[Any, dict[str, Tensor]]:
    batch, _ = detector.transform(list(images), None)
    features = detector.backbone(batch.tensors)
    return batch, {"0": features} if isinstance(features, Tensor) else features


def seen(detector: Any, looks: Sequence[Look], regions: list[Tensor]) -> Tensor:
    """(R, D) of all images' regions, by the detector's last stage.

    Args:
        regions: of each image, in its pixels.
    """
    heads = detector.roi_heads
    if len(looks) == 1 and all(factor == 1 for factor in looks[0].factors):
        return heads.box_head(heads.box_roi_pool(looks[0].maps, regions, looks[0].sizes))
    pairs = _pairs(looks, regions, SMALL_CLASSIFIED if detector.small else CLASSIFIED)
    counts = [len(each) for each in regions]
    result: Tensor | None = None
    for place, look in enumerate(looks):
        chosen = (pairs == place).any(1)
        if not chosen.any():
            continue
        parts = zip(regions, chosen.split(counts), look.factors, strict=True)
        scaled = [each[ours] * factor for each, ours, factor in parts]
        numbers = heads.box_head(heads.box_roi_pool(look.maps, scaled, look.sizes))
        if result is None:
            result = numbers.new_full((len(chosen), numbers.shape[1]), -torch.inf)
        result[chosen] = torch.maximum(result[chosen], numbers)
    assert result is not None  # each region has a scale
    return result


def _pairs(looks: Sequence[Look], regions: list[Tensor], classified: int) -> Tensor:
    """(R, 2) places of the two scales of each region, the same one twice if there is only one."""
    sides = torch.cat([((each[:, 2:] - each[:, :2]).prod(1).clamp(min=1e-6)).sqrt() for each in regions])
    counts = torch.tensor([len(each) for each in regions], device=sides.device)
    columns = []
    for look in looks:
        factors = torch.tensor(look.factors, device=sides.device).repeat_interleave(counts)
        columns.append((sides * factors / classified).log().abs())
    far = torch.stack(columns, 1)  # (R, scales)
    best = far.argmin(1)
    below, above = (best - 1).clamp(min=0), (best + 1).clamp(max=len(looks) - 1)
    row = torch.arange(len(best), device=best.device)
    no_below, no_above = below == best, above == best
    nearer = torch.where(no_above | (~no_below & (far[row, below] < far[row, above])), below, above)
    return torch.stack([best, nearer], 1)
