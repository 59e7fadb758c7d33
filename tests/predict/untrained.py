"""Files of untrained detectors."""

from __future__ import annotations

from pathlib import Path

import torch
from runs import a_net

from pipeline.config import AugmentConfig, ModelConfig
from pipeline.learn.models import build_model
from pipeline.record import Net
from pipeline.run.inputs import Input, Resize
from pipeline.run.weights import save_weights


def save_detector(path: Path, channels: int, augment: AugmentConfig, resize: Resize) -> Net:
    """Weights of an untrained detector of classes a and b, which finds objects everywhere. Scores are near a third."""
    model = ModelConfig(family="faster_rcnn", backbone="resnet8", anchor=8, depth=8, residual=True, shortcut="A")
    net = a_net(model=model, num_classes=2, in_channels=channels, normalize="half", augment=augment)
    torch.manual_seed(0)
    taken = Input(
        classes=("a", "b"), resize=resize, mean=torch.full((1, 1, channels), 0.5), std=torch.full((channels,), 0.5)
    )
    save_weights(build_model(model, 2, channels), path, net, input=taken)
    return net


def save_photo_detector(path: Path) -> Net:
    """For RGB photos in a store whose shorter sides are at most 40 pixels."""
    augment = AugmentConfig(kind="whole", crop=40, min_side=30, max_side=36, test_side=36)
    return save_detector(path, 3, augment, Resize(format="shards", image_size=40, test_side=36, shape=(40, 40, 3)))
