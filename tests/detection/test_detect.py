"""Detections of trained detectors on a store's images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_scenes import AUGMENT, NUM_TEST, NUM_VAL, save_detector, write_store

from pipeline.data.boxes import Boxes
from pipeline.data.shards import ShardWriter, as_jpeg
from pipeline.data.store import ShardRecords, Store
from pipeline.detection import detect as detecting
from pipeline.detection import joint
from pipeline.detection.detect import Scenes, all_scenes, detect, validation_scenes
from pipeline.detection.joint import JointDetector, Manner
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


def test_a_damaged_file_of_detections_is_reported_and_made_again(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = save_detector(tmp_path / "runs", store, 1)
    files, scenes = [tmp_path / "runs" / net.key / BEST], validation_scenes(store)
    detections = detect(files, scenes, tmp_path / "cache", CPU)
    (kept,) = (tmp_path / "cache").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-9] + b"x" + whole[-8:])
    again = detect(files, scenes, tmp_path / "cache", CPU)
    assert f"{kept} is damaged; the detections are computed again" in capsys.readouterr().err
    assert kept.read_bytes() == whole
    assert [len(each.scores) for each in again] == [len(each.scores) for each in detections]


def test_detectors_compute_in_float32_on_a_gpu_too(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, rounds = save_detector(tmp_path / "runs", store, 1), []
    usual = JointDetector.forward

    def looked(self: JointDetector, *images: object) -> list:
        rounds.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        return usual(self, *images)

    monkeypatch.setattr(JointDetector, "forward", looked)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's default
    detect([tmp_path / "runs" / net.key / BEST], validation_scenes(store), tmp_path / "cache", CPU)
    assert set(rounds) == {(False, False)} and torch.backends.cudnn.allow_tf32


def test_scales_above_the_images_own_are_made_of_larger_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photographs are stored at 80 pixels and detected in at 40."""
    store, sizes = write_store(tmp_path / "store", channels=3), []
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    np.save(photographs / "test_labels.npy", np.zeros(NUM_TEST, np.int64))
    with ShardWriter(photographs, "test") as writer:
        for _ in range(NUM_TEST):
            writer.append(as_jpeg(b"", Image.new("RGB", (80, 80)), 80), 0, "")
    scenes = Scenes("test", store, ShardRecords(photographs, "test"), np.arange(1))
    augment = replace(AUGMENT, test_side=40)
    files = [tmp_path / "runs" / save_detector(tmp_path / "runs", store, 1, augment=augment).key / BEST]
    usual = joint.looks_at

    def looked(detector: object, images: list, scales: tuple, larger: list) -> tuple:
        sizes.append((scales, images[0].shape[1:], larger[0].shape[1:]))
        return usual(detector, images, scales, larger)

    monkeypatch.setattr(joint, "looks_at", looked)
    for scales in ((20, 60), (20, 40), ()):
        detect(files, scenes, tmp_path / "cache", CPU, Manner(scales=scales))
    assert sizes == [((20, 60), (40, 40), (60, 60)), ((20, 40), (40, 40), (40, 40)), ((), (40, 40), (40, 40))]


def test_batches_change_nothing_where_images_of_many_sizes_are_seen_at_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, photographs = write_store(tmp_path / "store", channels=3), tmp_path / "photographs"
    sides, rng = (80, 44, 60, 100, 52), np.random.default_rng(5)
    photographs.mkdir()
    np.save(photographs / "test_labels.npy", np.zeros(len(sides), np.int64))
    with ShardWriter(photographs, "test") as writer:
        for side in sides:
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            writer.append(as_jpeg(b"", Image.fromarray(pixels), side), 0, "")
    scenes = Scenes("test", store, ShardRecords(photographs, "test"), np.arange(len(sides)))
    vars(scenes)["truth"] = [Boxes.make((side, side), []) for side in sides]
    net = save_detector(tmp_path / "runs", store, 3, augment=replace(AUGMENT, test_side=40))
    files = [tmp_path / "runs" / net.key / BEST]
    once = detect(files, scenes, tmp_path / "once", CPU)
    monkeypatch.setattr(detecting, "BATCH", 2)
    for side, one, other in zip(sides, once, detect(files, scenes, tmp_path / "thrice", CPU), strict=True):
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-5)
        assert (
            other.corners.max() == pytest.approx(one.corners.max(), abs=1e-2) and side / 2 < one.corners.max() <= side
        )


def test_detectors_of_other_images_are_refused(store: Store, tmp_path: Path) -> None:
    net = save_detector(tmp_path / "runs", store, 1)
    elsewhere = write_store(tmp_path / "other", name="scenes")
    other = all_scenes(elsewhere, elsewhere.test())
    elsewhere.manifest.__dict__["content_hash"] = "0" * 64
    with pytest.raises(PipelineError, match=r"was trained on data .* train it again"):
        detect([tmp_path / "runs" / net.key / BEST], other, tmp_path / "cache", CPU)
