"""Several detectors as one, the paper's way (appendix B): all see the union of the regions that they propose.

B images, R regions, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learn.models.detectors import Detector


class JointDetector(nn.Module):
    """Averages what each detector says of each region: its class probabilities, and how it moves the region.

    One detector alone finds what it finds without this module.

    Args:
        detectors: in evaluation mode, of the same classes.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        super().__init__()
        self.detectors = nn.ModuleList(detectors)

    @torch.inference_mode()
    def forward(self, images: Sequence[Sequence[Tensor]]) -> list[dict[str, Tensor]]:
        """Boxes (n, 4) in pixels of the images given, labels (n,) from 1, and scores (n,), the highest first, of each image.

        Args:
            images: of each detector, the B images (C, h, w), normalised as in its training; sizes are the same for all.
        """
        detectors: list[Any] = list(self.detectors)
        maps, proposed = [], []
        for detector, normalised in zip(detectors, images, strict=True):
            batch, _ = detector.transform(list(normalised), None)
            features = detector.backbone(batch.tensors)
            maps.append({"0": features} if isinstance(features, Tensor) else features)
            proposed.append(detector.rpn(batch, maps[-1], None)[0])
        regions = [torch.cat(parts) for parts in zip(*proposed, strict=True)]
        logits, moves = [], []
        for detector, features in zip(detectors, maps, strict=True):
            heads = detector.roi_heads
            scores, moved = heads.box_predictor(
                heads.box_head(heads.box_roi_pool(features, regions, batch.image_sizes))
            )
            logits.append(scores)
            moves.append(moved)
        # torchvision applies a softmax to logits, and that of log p is p.
        mean = torch.stack([scores.softmax(-1) for scores in logits]).mean(0).log() if len(logits) > 1 else logits[0]
        found = detectors[0].roi_heads.postprocess_detections(
            mean, torch.stack(moves).mean(0), regions, batch.image_sizes
        )
        return [dict(zip(("boxes", "scores", "labels"), each, strict=True)) for each in zip(*found, strict=True)]
