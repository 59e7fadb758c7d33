"""Views of a test image: geometry by hand, pixels as torchvision's (Sec. 3.4)."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from pipeline.config import AugmentConfig
from pipeline.data.shards import ShardRecords, ShardWriter, as_jpeg
from pipeline.learn.input.augment import Normalize
from pipeline.learn.input.batches import ShardBatches
from pipeline.learn.input.crops import Crop
from pipeline.learn.input.views import SCALES, views

ROUNDING = 2  # levels of 255 by which two ways to decode and resize may differ
SIZES = ((40, 60), (60, 40), (40, 60))  # height and width
CENTRE = AugmentConfig(
    kind="scale_jitter", crop=24, padding=0, flip=True, min_side=24, max_side=40, pca_std=0.0, test_side=40
)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> ShardRecords:
    folder, rng = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)
    np.save(folder / "test_labels.npy", np.arange(len(SIZES)))
    with ShardWriter(folder, "test") as writer:
        for label, (height, width) in enumerate(SIZES):
            small = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
            writer.append(as_jpeg(b"", small.resize((width, height)), 100), label, str(label))
    return ShardRecords(folder, "test")


def batches(records: ShardRecords) -> ShardBatches:
    return ShardBatches(records, CENTRE, Normalize(torch.zeros(3, 1, 1), torch.ones(3)), workers=2)


def decoded(records: ShardRecords, index: int) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(records.jpeg(index))))).permute(2, 0, 1)


def differ(one: torch.Tensor, two: torch.Tensor) -> int:
    assert one.shape == two.shape
    return int((one.int() - two.int()).abs().max())


def test_ten_crops_are_the_corners_the_centre_and_their_mirror_images() -> None:
    crops = [view.cut(100, 300) for view in views("ten_crop", crop=224, side=256)]
    assert {crop.size for crop in crops} == {(256, 768)}
    corners = [(0, 0), (0, 544), (32, 0), (32, 544), (16, 272)]
    assert [crop.corner for crop in crops] == corners * 2
    assert [crop.mirrored for crop in crops] == [False] * 5 + [True] * 5


def test_whole_images_keep_their_shape_at_each_of_the_papers_scales() -> None:
    whole = views("multi_scale", crop=224, side=256)
    assert SCALES == (224, 256, 384, 480, 640)
    assert [view.shape(500, 1000) for view in whole[::2]] == [(s, 2 * s) for s in SCALES]
    assert [view.shape(1000, 500) for view in whole[1::2]] == [(2 * s, s) for s in SCALES]
    assert [view.cut(500, 500).mirrored for view in whole] == [False, True] * 5


def test_a_single_view_is_the_centre_crop() -> None:
    (view,) = views("single", crop=224, side=256)
    assert view.cut(256, 300) == Crop(0, 0, 256, 300, (256, 300), (16, 38)) and view.shape(256, 300) == (224, 224)


def test_ten_crops_have_torchvisions_pixels(records: ShardRecords) -> None:
    looked = [batches(records).look(np.arange(3), view) for view in views("ten_crop", crop=24, side=40)]
    for groups in looked:
        assert [places.tolist() for places, _ in groups] == [[0, 1, 2]]
    for index in range(3):
        top_left, top_right, low_left, low_right, centre, *mirrored = TF.ten_crop(decoded(records, index), 24)
        # Torchvision mirrors the image before it cuts corners.
        theirs = [top_left, top_right, low_left, low_right, centre, *(mirrored[at] for at in (1, 0, 3, 2, 4))]
        ours = [pixels[index] for ((_, pixels),) in looked]
        assert max(differ(*pair) for pair in zip(ours, theirs, strict=True)) <= ROUNDING


def test_whole_images_of_one_size_are_looked_at_together(records: ShardRecords) -> None:
    whole, mirrored = views("multi_scale", crop=24, side=40)[:2]
    groups = batches(records).look(np.array([2, 1, 0]), whole)
    assert [(places.tolist(), tuple(pixels.shape)) for places, pixels in groups] == [
        ([0, 2], (2, 3, 224, 336)),
        ([1], (1, 3, 336, 224)),
    ]
    theirs = TF.resize(decoded(records, 1), [336, 224], antialias=True)
    assert differ(groups[1][1][0], theirs) <= ROUNDING
    assert differ(batches(records).look(np.array([1]), mirrored)[0][1][0], theirs.flip(2)) <= ROUNDING


def test_large_images_are_looked_at_a_few_at_a_time(records: ShardRecords) -> None:
    whole = views("multi_scale", crop=24, side=40)[0]
    groups = batches(records).look(np.arange(3), whole, most_pixels=224 * 336)
    assert [places.tolist() for places, _ in groups] == [[0], [2], [1]]
