from __future__ import annotations

from pathlib import Path

import pytest
from test_store import make_manifest

from pipeline.config import DataConfig, ModelConfig
from pipeline.data.facts import boxed, num_training, require_settings, require_task
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


MADE = {"name": "s", "path": "s", "image_size": 4, "num_val": 3}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"image_size": 8},
            r"^data\.image_size=8, but the store of tiny was made with data\.image_size=4; run `pipeline pre",
        ),
        ({"format": "shards"}, r"^data\.format=shards, but .* was made with data\.format=arrays; "),
        (
            {"num_val": 2, "split_seed": 1},
            r"^data\.num_val=2 and data\.split_seed=1, but .* data\.num_val=3 and data\.split_seed=0; ",
        ),
        ({"num_test": 12}, r"^data\.num_test=12, but .* was made with data\.num_test=14; "),
    ],
)
def test_a_store_that_was_made_with_other_values_is_refused(values: dict, sentence: str, tmp_path: Path) -> None:
    # Two of the 14 test images that were drawn could not be decoded.
    manifest = make_manifest(tmp_path, skipped=("test/a/1.png", "train/a/2.png", "test/b/3.png"))
    for fitting in (MADE, {**MADE, "num_test": 14}, {**MADE, "num_train": 5, "workers": 3, "split": "full"}):
        require_settings(manifest, DataConfig(**fitting))
    with pytest.raises(PipelineError, match=sentence):
        require_settings(manifest, DataConfig(**{**MADE, **values}))


def test_published_validation_images_are_those_of_any_split_that_is_asked_for(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, split={"num_val": 3, "seed": 0, "published": True})
    require_settings(manifest, DataConfig(**{**MADE, "num_val": 2, "split_seed": 1}))
