"""Several detectors as one, and what the paper does beyond its baseline when it detects (appendix B).

B images, R regions, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_iou, clip_boxes_to_image

from pipeline.detection.scales import Look, looks_at, seen
from pipeline.learn.models.detectors import Detector

REFINED_NMS = 0.3  # IoU from which the surer of two boxes of a class suppresses the other, where boxes are refined
VOTES = 0.5  # IoU from which a suppressed box votes on where the surer one lies


@dataclass(frozen=True)
class Manner:
    """How images are looked at, beyond the baseline."""

    refine: bool = False  # boxes found become regions once more, and those of a class vote on its place
    scales: tuple[int, ...] = ()  # shorter sides in pixels that regions are seen at; () for that of the images alone


BASELINE = Manner()


class _Outputs(NamedTuple):
    """What the detectors say of regions, on average."""

    logits: Tensor  # (R, K + 1) whose softmax are the probabilities
    moves: Tensor  # (R, 4 (K + 1)) that encode boxes


class JointDetector(nn.Module):
    """All detectors see the union of the regions that they propose, and what they say of each is averaged.

    One detector alone finds what it finds without this module.

    Args:
        detectors: in evaluation mode, of the same classes.
    """

    def __init__(self, detectors: Sequence[Detector], manner: Manner = BASELINE) -> None:
        super().__init__()
        self.detectors, self.manner = nn.ModuleList(detectors), manner

    @torch.inference_mode()
    def forward(
        self, images: Sequence[Sequence[Tensor]], larger: Sequence[Sequence[Tensor]] | None = None
    ) -> list[dict[str, Tensor]]:
        """Boxes (n, 4) in pixels of the images given, labels (n,) from 1, and scores (n,), the highest first, of each image.

        Args:
            images: of each detector, the B images (C, h, w), normalised as in its training; sizes are the same for all.
            larger: the same with more pixels, of which the scales above the images' own are made.
        """
        detectors: list[Any] = list(self.detectors)
        looks, proposed = [], []
        for detector, normalised, sharper in zip(detectors, images, larger or images, strict=True):
            batch, maps, own = looks_at(detector, normalised, self.manner.scales, sharper)
            looks.append(own)
            proposed.append(detector.rpn(batch, maps, None)[0])
        sizes = batch.image_sizes
        regions = [torch.cat(parts) for parts in zip(*proposed, strict=True)]
        outputs = self._outputs(looks, regions)
        heads = detectors[0].roi_heads
        if not self.manner.refine:
            results = heads.postprocess_detections(outputs.logits, outputs.moves, regions, sizes)
            return [dict(zip(("boxes", "scores", "labels"), each, strict=True)) for each in zip(*results, strict=True)]
        moved = _moved(heads, outputs, regions, sizes)
        again = self._outputs(looks, moved)
        counts = [len(each) for each in regions]
        logits, moves = (
            torch.cat([part for pair in zip(one.split(counts), two.split(counts), strict=True) for part in pair])
            for one, two in zip(outputs, again, strict=True)
        )
        union = [torch.cat(pair) for pair in zip(regions, moved, strict=True)]
        return _voted(heads, _Outputs(logits, moves), union, sizes)

    def _outputs(self, looks: Sequence[Sequence[Look]], regions: list[Tensor]) -> _Outputs:
        logits, moves = [], []
        for detector, own in zip(self.detectors, looks, strict=True):
            scores, moved = detector.roi_heads.box_predictor(seen(detector, own, regions))  # type: ignore[operator, union-attr]
            logits.append(scores)
            moves.append(moved)
        # torchvision applies a softmax to logits, and that of log p is p.
        mean = torch.stack([scores.softmax(-1) for scores in logits]).mean(0).log() if len(logits) > 1 else logits[0]
        return _Outputs(mean, torch.stack(moves).mean(0))


def _moved(heads: Any, outputs: _Outputs, regions: list[Tensor], sizes: list[tuple[int, int]]) -> list[Tensor]:
    """The box of each region's most probable class; the region itself where that has no area."""
    boxes = heads.box_coder.decode(outputs.moves, regions)  # (R, K + 1, 4)
    best = outputs.logits[:, 1:].argmax(1) + 1
    chosen = boxes[torch.arange(len(best), device=best.device), best]
    moved = []
    for region, box, size in zip(regions, chosen.split([len(each) for each in regions]), sizes, strict=True):
        inside = clip_boxes_to_image(box, size)
        has_area = (inside[:, 2:] - inside[:, :2] > 1).all(1, keepdim=True)
        moved.append(torch.where(has_area, inside, region))
    return moved


def _voted(
    heads: Any, outputs: _Outputs, regions: list[Tensor], sizes: list[tuple[int, int]]
) -> list[dict[str, Tensor]]:
    """Detections whose boxes are means of those of their class that overlap them, weighted by their scores."""
    usual, heads.nms_thresh = heads.nms_thresh, REFINED_NMS
    try:
        results = heads.postprocess_detections(outputs.logits, outputs.moves, regions, sizes)
    finally:
        heads.nms_thresh = usual
    counts = [len(each) for each in regions]
    every = heads.box_coder.decode(outputs.moves, regions).split(counts)
    scores = F.softmax(outputs.logits, -1).split(counts)
    result = []
    for boxes, sure, labels, candidates, probabilities, size in zip(*results, every, scores, sizes, strict=True):
        placed = boxes.clone()
        for label in labels.unique().tolist():
            ours = labels == label
            likely = probabilities[:, label] > heads.score_thresh
            voters = clip_boxes_to_image(candidates[likely, label], size)
            weights = (box_iou(boxes[ours], voters) >= VOTES) * probabilities[likely, label]
            placed[ours] = weights @ voters / weights.sum(1, keepdim=True).clamp(min=1e-12)
        result.append({"boxes": placed, "scores": sure, "labels": labels})
    return result
