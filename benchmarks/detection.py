"""Training of detectors through `fit` against a bare loop over the same net, images and objects."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch

from benchmarks import rates
from benchmarks.harness import Bench, Measured, Row
from benchmarks.synthetic import boxed_store
from pipeline.config import (
    AugmentConfig,
    Config,
    DataConfig,
    ModelConfig,
    PathsConfig,
    RecipeConfig,
    SweepConfig,
    TrackingConfig,
    filled,
)
from pipeline.data.store import Store
from pipeline.learn.input import order
from pipeline.learn.tasks import task_of
from pipeline.learn.training.precision import float32_products

KEPT = 0.9  # share of the bare loop's speed that the pipeline must keep
IMAGES = 512  # of the store, an epoch of which lasts longer than a measurement
HELD = 4  # batches that the bare loop holds in memory and repeats


def section(bench: Bench, backbone: str = "resnet20", side: int = 128, batch_size: int = 8) -> list[Measured]:
    """The step rate of Faster R-CNN, as digit_scenes trains it."""
    store = boxed_store(bench.work / "squares", side=side, classes=10, images=IMAGES, num_val=8)
    config = detector_config(store, bench.folder("runs-detection"), backbone, batch_size)
    first = bare_rate(rates.of_steps(config, 4), store, bench.device)
    steps = int(first * bench.effort.seconds) * (rates.WARM_UP + 1) // rates.WARM_UP
    config = rates.of_steps(config, min(max(4, steps), IMAGES // batch_size))
    row = Row(
        name=f"training step rate, {config.model.name}, {side}x{side}, batch {batch_size}",
        unit="steps/s",
        bar=KEPT,
        ours=lambda: rates.fit_rate(config, store),
        reference=lambda: bare_rate(config, store, bench.device),
    )
    return [bench.measure(row)]


def detector_config(store: Store, runs: Path, backbone: str, batch_size: int) -> Config:
    """conf/recipe/detection_quick.yaml on all images of `store`, at one rate."""
    manifest = store.manifest
    model = {"family": "faster_rcnn", "backbone": backbone, "anchor": 8}
    return Config(
        data=DataConfig(name=manifest.name, path=str(store.path), image_size=manifest.image_size, split="full"),
        model=ModelConfig(**filled({"model": model})["model"]),
        recipe=RecipeConfig(
            batch_size=batch_size,
            lr=0.001,
            rois=64,
            normalize="half",
            precision="fp32",
            augment=AugmentConfig(kind="whole", crop=manifest.image_size),
        ),
        sweep=SweepConfig(space={"seed": [0]}),  # not used
        tracking=TrackingConfig(system_metrics_every_s=0),
        paths=PathsConfig(runs=str(runs), mlruns=str(runs / "mlruns")),
    )


def bare_rate(config: Config, store: Store, device: torch.device) -> float:
    """Steps a second of a plain loop: the same net and SGD, a few batches of images and objects in memory."""
    recipe = config.recipe
    torch.manual_seed(config.seed)
    net = rates.new_net(config, store).to(device)
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    optimiser = torch.optim.SGD(weights, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    batches = task_of(config.model).batches(store, config.data.split, recipe, 1)
    draws = order.draws(len(store.train()), batches.width, config.seed, 0)
    held = []
    for rows in np.arange(HELD * recipe.batch_size).reshape(HELD, -1):
        fetched = [part.to(device) for part in batches.fetch(rows, draws[rows])]
        held.append(batches.finish(fetched)[1:])
    warm, start = config.trainer.log_every_steps, 0.0
    with float32_products(recipe.precision):
        for step, (images, targets) in enumerate(islice(cycle(held), recipe.max_steps)):
            if step == warm:
                start = rates.now(device)
            optimiser.zero_grad()
            sum(net(images, targets).values()).backward()
            optimiser.step()
    return (recipe.max_steps - warm) / (rates.now(device) - start)
