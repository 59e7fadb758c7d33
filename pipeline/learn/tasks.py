"""What nets learn: the class of an image, or the objects in it. A task says how both kinds of nets train in one loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.config import ModelConfig, RecipeConfig
from pipeline.data.boxes import boxes_of
from pipeline.data.store import Store
from pipeline.learn.input.batches import batches_of
from pipeline.learn.training.classifier import Classifier
from pipeline.learn.training.module import TrainingModule


@dataclass(frozen=True)
class Task:
    """How a kind of net gets its batches, and what it learns from them."""

    batches: Callable[[Store, str, RecipeConfig, int], Any]  # of the training images; (store, split, recipe, threads)
    training: Callable[[], type[TrainingModule]]
    eval_batch: int  # images a rank and a forward pass


def _labelled(store: Store, split: str, recipe: RecipeConfig, threads: int) -> Any:
    return batches_of(store.train(), store.statistics(split), recipe.augment, recipe.normalize, threads)


def _boxed(store: Store, split: str, recipe: RecipeConfig, threads: int) -> Any:
    from pipeline.learn.input.scenes import SceneBatches

    records, boxes = store.train(), boxes_of(store, "train")
    return SceneBatches(records, boxes, store.statistics(split), recipe.augment, recipe.normalize, threads)


def _detector_training() -> type[TrainingModule]:
    from pipeline.learn.training.detector import DetectorTraining  # here, since it needs pycocotools

    return DetectorTraining


CLASSIFICATION = Task(batches=_labelled, training=lambda: Classifier, eval_batch=500)
DETECTION = Task(batches=_boxed, training=_detector_training, eval_batch=8)


def task_of(model: ModelConfig) -> Task:
    return DETECTION if model.detects else CLASSIFICATION
