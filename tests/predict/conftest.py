from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from runs import a_net
from untrained import save_detector

from pipeline.config import AugmentConfig, DataConfig, ModelConfig
from pipeline.data.boxes import Boxes, BoxTable
from pipeline.data.preprocess import preprocess
from pipeline.data.sources import fetch
from pipeline.data.store import ArrayRecords, Store, open_store
from pipeline.learn.models import build_model
from pipeline.record import Net
from pipeline.run.inputs import Resize, input_of
from pipeline.run.weights import BEST, save_weights

CROP, TEST_SIDE, LONGEST = 32, 36, 40  # pixels
TRAIN, TEST = 4, 3  # images a class


class Photos(NamedTuple):
    """Photos of several sizes and kinds, their store of shards, and weights of a net for them."""

    folder: Path  # test images in class folders
    store: Store
    weights: Path
    net: Net


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("test", TEST)):
        for label in "ab":
            (root / "photos" / split / label).mkdir(parents=True)
            for at in range(count):
                pixels = rng.integers(0, 256, (44 - 3 * at, 38 + 9 * at, 3), dtype=np.uint8)
                image = Image.fromarray(pixels).convert("L" if at == 1 else "RGB")
                image.save(root / "photos" / split / label / f"{at}.{'png' if at == 2 else 'jpg'}")
    data = DataConfig(
        name="photos",
        path=str(root / "photos"),
        format="shards",
        image_size=LONGEST,
        num_val=2,
        workers=1,
    )
    fetch(data, root / "raw", root)
    preprocess(data, root / "raw", root / "store")
    store = open_store(root / "store")
    augment = AugmentConfig(kind="random_resized_crop", crop=CROP, test_side=TEST_SIDE)
    model = ModelConfig(family="imagenet", depth=18, residual=True, shortcut="B")
    net = a_net(model=model, num_classes=2, in_channels=3, augment=augment, data=store.manifest.content_hash)
    torch.manual_seed(0)
    built = build_model(model, 2, 3)
    built(torch.randn(16, 3, CROP, CROP))  # gives batch norm statistics
    save_weights(built, root / BEST, net, input=input_of(store, net))
    return Photos(root / "photos" / "test", store, root / BEST, net)


SCENE = 64  # pixels


class Scenes(NamedTuple):
    """Grey scenes as a store's arrays, as files, and weights of a detector for them."""

    folder: Path  # files of the scenes
    records: ArrayRecords
    boxes: BoxTable
    weights: Path
    net: Net


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    root = tmp_path_factory.mktemp("scenes")
    images = np.random.default_rng(0).integers(0, 256, (3, SCENE, SCENE, 1), dtype=np.uint8)
    np.save(root / "test_images.npy", images)
    np.save(root / "test_labels.npy", np.zeros(len(images), np.int64))
    BoxTable.write(root, "test", [Boxes.make((SCENE, SCENE), []) for _ in images])
    (root / "files").mkdir()
    for at, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(root / "files" / f"{at}.png")
    augment = AugmentConfig(kind="whole", crop=SCENE, flip=False)
    resize = Resize(format="arrays", image_size=SCENE, test_side=0, shape=(SCENE, SCENE, 1))
    net = save_detector(root / BEST, 1, augment, resize)
    return Scenes(root / "files", ArrayRecords(root, "test"), BoxTable(root, "test"), root / BEST, net)
