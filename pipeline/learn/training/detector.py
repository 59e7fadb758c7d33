"""What a net that finds objects learns (Sec. 4.3): one joint loss of regions proposed, classified and refined."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.data.boxes import Detections
from pipeline.evaluation.detection import CocoMatches
from pipeline.learn.input.scenes import detections
from pipeline.learn.training.counts import Losses
from pipeline.learn.training.module import TrainingModule

# Lightning warns of modules in eval mode when training starts; batch norm is meant to be.
warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")

PROPOSALS = ("loss_objectness", "loss_rpn_box_reg")  # torchvision's losses of the network that proposes regions


class DetectorTraining(TrainingModule):
    """Trains a `Detector` on batches of `scenes.SceneBatches`.

    val/err1 is 1 - AP, COCO's average precision over IoU from .5 to .95, and val/err5 is 1 - AP at IoU .5, so that the lowest
    error is the best, as everywhere.
    """

    counted = Losses

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._detected: dict[int, Detections] = {}  # by record

    def _loss(self, side: int, *batch: Any) -> Tensor:
        _, images, targets = batch
        losses = self.model(images, targets)
        proposals = sum(losses[name] for name in PROPOSALS)
        loss = sum(losses.values())
        with torch.no_grad():
            parts = torch.stack([loss, proposals, loss - proposals, torch.ones_like(loss)]).double()
            self._sums.add_(parts * len(images))
        return loss

    def on_validation_epoch_start(self) -> None:
        self._detected = {}

    def validation_step(self, batch: tuple[Any, ...], batch_idx: int) -> None:
        indices, images, _ = batch
        if len(images):
            made = detections(self.result.forward(images), images, [self._boxes[row].size for row in indices.tolist()])
            self._detected |= dict(zip(indices.tolist(), made, strict=True))

    def on_validation_epoch_end(self) -> None:
        shares: list[Any] = [self._detected]
        if self.trainer.world_size > 1:
            shares = [None] * self.trainer.world_size
            dist.all_gather_object(shares, self._detected)
        detected = {row: made for share in shares for row, made in share.items()}
        rows = sorted(detected)
        truth = [self._boxes[row] for row in rows]
        scores = CocoMatches(truth, [detected[row] for row in rows], int(self.model.num_classes)).scores()  # type: ignore[arg-type]
        values = {"ap": scores.ap, "ap50": scores.ap50, "ap75": scores.ap75}
        metrics = {f"val/{name}": value or 0.0 for name, value in values.items()}
        self._validated({"val/err1": 1 - metrics["val/ap"], "val/err5": 1 - metrics["val/ap50"], **metrics})

    @property
    def _boxes(self) -> Any:
        return self.trainer.datamodule.batches.boxes  # type: ignore[attr-defined]
