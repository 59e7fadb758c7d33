from __future__ import annotations

from pathlib import Path

import pytest
from test_store import make_manifest

from pipeline.config import ModelConfig
from pipeline.data.facts import boxed, num_training, require_task
from pipeline.errors import PipelineError


def test_holdout_trains_on_all_but_the_validation_images(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, counts={"train": 10, "test": 3}, split={"num_val": 4, "seed": 0})
    assert (num_training(manifest, "holdout"), num_training(manifest, "full")) == (6, 10)


def test_a_net_takes_images_of_its_own_task_alone(tmp_path: Path) -> None:
    labelled, files = make_manifest(tmp_path), {"train_boxes.npy": {"bytes": 1, "sha256": ""}}
    wiring = {"depth": 20, "residual": True, "shortcut": "A"}
    net = ModelConfig(**wiring)
    detector = ModelConfig(family="faster_rcnn", backbone="resnet20", **wiring)
    require_task(labelled, net)
    with_boxes = make_manifest(tmp_path, name="scenes", files=files)
    assert boxed(with_boxes) and not boxed(labelled)
    with pytest.raises(PipelineError, match=r"scenes has boxes of objects.*\(override: data=digits\)"):
        require_task(with_boxes, net)
    require_task(with_boxes, detector)
    with pytest.raises(PipelineError, match=r"labels of images.*\(override: model=cifar\)"):
        require_task(labelled, detector)
