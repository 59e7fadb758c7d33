"""What a step of a detector adds up, and what its validation says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nets import make_detector
from torch import Tensor, nn

from benchmarks.synthetic import boxed_store
from pipeline.config import AugmentConfig, RecipeConfig
from pipeline.data.boxes import boxes_of
from pipeline.evaluation.detection import CocoMatches, Detections
from pipeline.learn.input.scenes import SceneBatches
from pipeline.learn.models import build_model
from pipeline.learn.training.counts import Losses
from pipeline.learn.training.detector import DetectorTraining, detections

RECIPE = RecipeConfig(augment=AugmentConfig(kind="whole", crop=64, flip=False), normalize="half", precision="fp32")


@pytest.fixture
def batches(tmp_path: Path) -> SceneBatches:
    store = boxed_store(tmp_path)
    return SceneBatches(store.train(), boxes_of(store, "train"), store.statistics("full"), RECIPE.augment, "half")


def test_a_step_adds_losses_times_images_and_the_parts_make_the_whole(batches: SceneBatches) -> None:
    torch.manual_seed(0)
    detector = build_model(make_detector(), 3, 1, rois=16)
    module = DetectorTraining(detector, RECIPE)
    draws = np.random.default_rng(0).random((5, 4), np.float32)
    expected = np.zeros(4)
    for rows in (slice(0, 2), slice(2, 5)):
        batch = batches.finish(batches.fetch(np.arange(5)[rows], draws[rows]))
        losses = {key: float(value) for key, value in detector(*batch[1:]).items()}
        proposals = losses["loss_objectness"] + losses["loss_rpn_box_reg"]
        count = rows.stop - rows.start
        expected += np.array([sum(losses.values()), proposals, sum(losses.values()) - proposals, 1.0]) * count
        assert float(module._loss(64, *batch)) == pytest.approx(sum(losses.values()))
    assert module._sums.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    means = Losses(*module._sums.tolist()).since(Losses())
    assert means == pytest.approx(
        {
            "train/loss": expected[0] / 5,
            "train/loss_proposals": expected[1] / 5,
            "train/loss_regions": expected[2] / 5,
        },
        rel=1e-5,
    )


class Rehearsed(nn.Module):
    """Finds in each image what was rehearsed, in the order in which images come."""

    num_classes = 3

    def __init__(self, found: Sequence[Detections]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self._found = list(found)

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        taken = [self._found.pop(0) for _ in images]
        return [
            {"boxes": torch.tensor(c), "scores": torch.tensor(s), "labels": torch.tensor(n) + 1} for c, s, n in taken
        ]


def rehearsed(batches: SceneBatches, count: int) -> list[Detections]:
    """The objects of the first images, moved a little, with some of a wrong class."""
    rng, made = np.random.default_rng(1), []
    for at in range(count):
        truth = batches.boxes[at]
        corners = (truth.corners + rng.normal(0, 1.5, truth.corners.shape)).astype(np.float32)
        labels = np.where(rng.random(len(corners)) < 0.2, 0, truth.labels)
        made.append(Detections(corners, -np.sort(-rng.random(len(corners))).astype(np.float32), labels))
    return made


def validated(batches: SceneBatches, found: Sequence[Detections], parts: Sequence[np.ndarray]) -> dict[str, float]:
    """Metrics of a validation whose images come in these parts."""
    module = DetectorTraining(Rehearsed([found[at] for part in parts for at in part]), RECIPE)
    datamodule = SimpleNamespace(batches=batches)
    module._trainer = SimpleNamespace(world_size=1, datamodule=datamodule)  # type: ignore[assignment]
    module.log_dict = lambda *arguments, **options: None  # type: ignore[method-assign]
    module.on_validation_epoch_start()
    for number, part in enumerate(parts):
        module.validation_step(batches.finish(batches.fetch(part, None)), number)
    module.on_validation_epoch_end()
    return module.val_metrics


@pytest.mark.parametrize(
    "parts",
    [
        [np.arange(12)],
        [np.arange(5), np.arange(5, 12)],
        [np.arange(12)[::-1].copy()],
        [np.array([], np.int64), np.arange(12)],
        [np.arange(12), np.array([3, 4])],  # an image that comes twice counts once
    ],
    ids=["one", "two", "backwards", "an-empty-one", "repeated"],
)
def test_batches_of_a_validation_give_the_ap_of_all_images(parts: list[np.ndarray], batches: SceneBatches) -> None:
    found = rehearsed(batches, 12)
    scores = CocoMatches([batches.boxes[at] for at in range(12)], found, 3).scores()
    metrics = validated(batches, found, parts)
    assert scores.ap is not None and scores.ap50 is not None and 0.1 < scores.ap < scores.ap50 < 1
    assert metrics == {
        "val/err1": 1 - scores.ap,
        "val/err5": 1 - scores.ap50,
        "val/ap": scores.ap,
        "val/ap50": scores.ap50,
        "val/ap75": scores.ap75,
    }


def test_images_without_objects_alone_have_an_error_of_one(batches: SceneBatches) -> None:
    metrics = validated(batches, rehearsed(batches, 1), [np.array([0])])
    assert len(batches.boxes[0].labels) == 0
    assert metrics == {"val/err1": 1.0, "val/err5": 1.0, "val/ap": 0.0, "val/ap50": 0.0, "val/ap75": 0.0}


def test_places_are_given_in_pixels_of_the_stored_image() -> None:
    found: list[dict[str, Any]] = [
        {"boxes": torch.tensor([[10.0, 20.0, 30.0, 40.0]]), "scores": torch.tensor([0.5]), "labels": torch.tensor([2])}
    ]
    (made,) = detections(found, [torch.zeros(3, 100, 50)], [(150, 200)])  # width and height
    assert made.corners.tolist() == [[30, 40, 90, 80]] and made.corners.dtype == np.float32
    assert (made.scores.tolist(), made.labels.tolist()) == ([0.5], [1])
