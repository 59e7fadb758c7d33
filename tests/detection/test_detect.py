"""Detections of trained detectors on a store's images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_scenes import NUM_TEST, NUM_VAL, save_detector, write_store

from pipeline.data.store import Store
from pipeline.detection import detect as detecting
from pipeline.detection.detect import all_scenes, detect, validation_scenes
from pipeline.ensemble.forward import trained
from pipeline.errors import PipelineError
from pipeline.run.weights import BEST, load_weights

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store")


def test_scenes_are_the_validation_or_the_test_images_with_their_objects(store: Store) -> None:
    val, test = validation_scenes(store), all_scenes(store, store.test())
    assert (len(val.truth), len(test.truth)) == (NUM_VAL, NUM_TEST)
    assert set(val.indices) == set(store.split_indices("holdout")[1])
    assert all(len(boxes.labels) == 1 for boxes in (*val.truth, *test.truth))


def test_detections_are_those_of_the_net_and_are_kept(store: Store, tmp_path: Path) -> None:
    net = save_detector(tmp_path / "runs", store, 1)
    file, scenes = tmp_path / "runs" / net.key / BEST, all_scenes(store, store.test())
    detections = detect([file], scenes, tmp_path / "cache", CPU)
    state, record = load_weights(file)
    image = torch.from_numpy(np.array(store.test().images[3])).permute(2, 0, 1)
    with torch.no_grad():
        (alone,) = trained(record.model, record.num_classes, record.in_channels, state)([(image / 255 - 0.5) / 0.5])
    assert len(alone["boxes"]) == len(detections[3].scores) > 0
    np.testing.assert_allclose(detections[3].corners, alone["boxes"].numpy(), atol=1e-3)
    np.testing.assert_array_equal(detections[3].labels, alone["labels"].numpy() - 1)
    file.unlink()
    (kept,) = (tmp_path / "cache").iterdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detecting, "sha256", lambda _: net.checkpoint_sha256)
        again = detect([file], scenes, tmp_path / "cache", CPU)
    for one, other in zip(detections, again, strict=True):
        assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))
    assert kept.exists()


def test_a_damaged_file_of_detections_is_made_again(store: Store, tmp_path: Path) -> None:
    net = save_detector(tmp_path / "runs", store, 1)
    files, scenes = [tmp_path / "runs" / net.key / BEST], validation_scenes(store)
    detections = detect(files, scenes, tmp_path / "cache", CPU)
    (kept,) = (tmp_path / "cache").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-9] + b"x" + whole[-8:])
    again = detect(files, scenes, tmp_path / "cache", CPU)
    assert kept.read_bytes() == whole
    assert [len(each.scores) for each in again] == [len(each.scores) for each in detections]


def test_detectors_of_other_images_are_refused(store: Store, tmp_path: Path) -> None:
    net = save_detector(tmp_path / "runs", store, 1)
    elsewhere = write_store(tmp_path / "other", name="scenes")
    other = all_scenes(elsewhere, elsewhere.test())
    elsewhere.manifest.__dict__["content_hash"] = "0" * 64
    with pytest.raises(PipelineError, match=r"was trained on data .* train it again"):
        detect([tmp_path / "runs" / net.key / BEST], other, tmp_path / "cache", CPU)
