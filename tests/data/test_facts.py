from __future__ import annotations

from pathlib import Path

import pytest
from test_store import make_manifest

from pipeline.data.facts import boxed, num_training, require_labels
from pipeline.errors import PipelineError


def test_holdout_trains_on_all_but_the_validation_images(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, counts={"train": 10, "test": 3}, split={"num_val": 4, "seed": 0})
    assert (num_training(manifest, "holdout"), num_training(manifest, "full")) == (6, 10)


def test_images_whose_objects_have_boxes_are_refused_where_labels_are_needed(tmp_path: Path) -> None:
    labelled, files = make_manifest(tmp_path), {"train_boxes.npy": {"bytes": 1, "sha256": ""}}
    require_labels(labelled)
    with_boxes = make_manifest(tmp_path, name="scenes", files=files)
    assert boxed(with_boxes) and not boxed(labelled)
    with pytest.raises(PipelineError, match=r"scenes has boxes of objects.*\(override: data=digits\)"):
        require_labels(with_boxes)
