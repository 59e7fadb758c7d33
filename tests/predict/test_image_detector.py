"""A detector's file of weights is enough to find objects, and it finds those of validation."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imports import ROOT
from untrained import save_photo_detector

from pipeline.data.boxes import Boxes, BoxTable, Detections
from pipeline.data.store import Statistics
from pipeline.learn.input.scenes import SceneBatches, decoded, detections
from pipeline.learn.models import build_model
from pipeline.predict import load_net
from pipeline.predict.detector import ImageDetector
from pipeline.predict.images import Scene, image_files, scene_of_file
from pipeline.run.weights import BEST, load_weights


def batches_of(records: Any, boxes: BoxTable, net: Any) -> SceneBatches:
    channels = net.in_channels
    zeros = np.zeros(channels, np.float32)
    measured = Statistics(pixel_mean=zeros[None, None], mean=zeros, std=zeros + 1)
    return SceneBatches(records, boxes, measured, net.augment, net.normalize)


def validated(weights: Path, records: Any, boxes: BoxTable) -> list[Detections]:
    """What validation finds in a batch of all images."""
    state, net = load_weights(weights)
    detector = build_model(net.model, net.num_classes, net.in_channels)
    detector.load_state_dict(state)
    batches, rows = batches_of(records, boxes, net), np.arange(len(boxes))
    _, images, _ = batches.finish(batches.fetch(rows, None))
    with torch.no_grad():
        found = detector.eval()(images)
    return detections(found, images, [boxes[row].size for row in rows.tolist()])


def assert_equal(found: list[Detections], expected: list[Detections]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours.labels)
        for part, other in zip(ours, theirs, strict=True):
            assert part.dtype == other.dtype
            np.testing.assert_array_equal(part, other)


@pytest.fixture(scope="module")
def of_photos(photos: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BoxTable]:
    """Weights of a detector for the photos, and their sizes in the store, without objects."""
    root = tmp_path_factory.mktemp("of_photos")
    save_photo_detector(root / BEST)
    records = photos.store.test()
    sizes = [decoded(records.jpeg(at)).shape[:2] for at in range(len(records))]
    BoxTable.write(root, "test", [Boxes.make((width, height), []) for height, width in sizes])
    return root / BEST, BoxTable(root, "test")


def test_a_detector_of_arrays_finds_what_validation_finds(scenes: Any) -> None:
    net = load_net(scenes.weights)
    assert isinstance(net, ImageDetector) and net.classes == ("a", "b") and net.channels == 1
    images = torch.from_numpy(np.array(scenes.records.images)).permute(0, 3, 1, 2)
    assert_equal(net(images), validated(scenes.weights, scenes.records, scenes.boxes))
    assert net([]) == []


def test_a_detector_of_jpegs_finds_what_validation_finds(photos: Any, of_photos: tuple[Path, BoxTable]) -> None:
    weights, boxes = of_photos
    records = photos.store.test()
    images = [torch.from_numpy(decoded(records.jpeg(at))).permute(2, 0, 1) for at in range(len(records))]
    assert len({image.shape for image in images}) > 2
    assert_equal(load_net(weights)(images), validated(weights, records, boxes))


def test_files_become_what_validation_sees(photos: Any, of_photos: tuple[Path, BoxTable]) -> None:
    weights, boxes = of_photos
    net = load_net(weights)
    _, images, sizes, *_ = batches_of(photos.store.test(), boxes, net.record).fetch(np.arange(len(boxes)), None)
    files = image_files([str(photos.folder)])
    for file, image, (height, width) in zip(files, images, sizes.tolist(), strict=True):
        scene = scene_of_file(file, net.resize, 1)
        assert isinstance(scene, Scene)
        assert torch.equal(scene.image, image[:, :height, :width])
        assert net([scene.image])[0].corners.max() <= max(height, width)


def test_the_answer_is_in_pixels_of_the_given_image(scenes: Any) -> None:
    net = load_net(scenes.weights)
    small = torch.from_numpy(np.array(scenes.records.images[0])).permute(2, 0, 1)
    wide = torch.nn.functional.pad(small, (0, 32)).repeat_interleave(2, 1).repeat_interleave(2, 2)  # 128 x 192
    (found,) = net([wide])
    assert found.corners[:, 2].max() <= 192 and found.corners[:, 3].max() <= 128
    assert found.corners[:, 2].max() > 128  # more than the net's own pixels


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([torch.zeros(1, 64, 64)], "an image of torch.float32; send uint8 pixels from 0 to 255"),
        ([torch.zeros(64, 64, 1, dtype=torch.uint8)], r"channels come first: image.permute\(2, 0, 1\)"),
        ([torch.zeros(3, 64, 64, dtype=torch.uint8)], r"shape \(3, 64, 64\); this net takes \(1, H, W\) each"),
        (torch.zeros(1, 64, 64, dtype=torch.uint8), r"shape \(64, 64\); .*send a list of such images"),
        ([torch.zeros(1, 0, 64, dtype=torch.uint8)], r"shape \(1, 0, 64\)"),
        ([np.zeros((1, 64, 64), np.uint8)], "an image is a ndarray; send a list of uint8 tensors"),
    ],
)
def test_other_images_are_refused_in_a_sentence(images: Any, sentence: str, scenes: Any) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_net(scenes.weights)(images)


def test_the_pages_python_finds_objects(scenes: Any) -> None:
    page = (ROOT / "docs/ensembles.md").read_text()
    (code,) = re.findall(r"^    detections = load_net.*\n(?:    .*\n)+", page, re.M)
    values = {"images": [torch.zeros(1, 64, 64, dtype=torch.uint8)], "load_net": load_net}
    exec(re.sub('load_net\\(".*"\\)', f"load_net({str(scenes.weights)!r})", textwrap.dedent(code)), values)
    assert isinstance(values["detections"][0], Detections)
