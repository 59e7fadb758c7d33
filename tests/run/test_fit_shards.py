"""`fit` on the ImageNet path: JPEG shards, random crops, a net with the 7x7 stem."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from imports import ROOT
from PIL import Image
from runs import composed, metrics

from pipeline.data.preprocess import preprocess
from pipeline.data.sources import fetch
from pipeline.run.fit import fit

COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (180, 180, 60))
TRAIN, TEST = 56, 2  # images a class
STEPS = 24


def images_of_colours(folder: Path) -> None:
    """Class folders of images of about 48x40, each of its class's colour under noise."""
    rng = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("test", TEST)):
        for label, colour in enumerate(COLOURS):
            (folder / split / f"c{label}").mkdir(parents=True)
            for i in range(count):
                noisy = rng.normal(colour, 40, (40, 48 + i % 5, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(folder / split / f"c{label}" / f"{i}.jpg")


def test_an_imagenet_net_learns_from_jpegs(tmp_path):
    images_of_colours(tmp_path / "images")
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "params.yaml").touch()
    config = composed(
        tmp_path,
        *("data=imagenette", "model.depth=18", "trainer.accelerator=cpu", "trainer.log_every_steps=1"),
        *("recipe.precision=fp32", "recipe.batch_size=16", f"recipe.max_steps={STEPS}", "recipe.lr=0.005"),
        *("recipe.augment.crop=32", "recipe.augment.test_side=36", "data.workers=1"),
        *("data.image_size=40", "data.num_val=32", f"data.path={tmp_path}/images"),
    )
    raw, store = tmp_path / "raw", tmp_path / "store"
    fetch(config.data, raw, tmp_path)
    assert preprocess(config.data, raw, store).format == "shards"

    result = fit(config, store, track=False)

    loss, errors = (list(metrics(tmp_path, key).values()) for key in ("train/loss", "val/err1"))
    assert result.complete and len(loss) == STEPS
    assert np.mean(loss[-5:]) < np.mean(loss[:5]) / 2
    assert len(errors) == STEPS // 12 and errors[-1] <= errors[0] and result.val_err1 <= 0.25
