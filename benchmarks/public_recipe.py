"""CIFAR-10 as public repositories train it: torchvision and PIL, two loading processes, float32, NCHW, a plain loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pipeline.config import Config
from pipeline.data.store import Store
from pipeline.learn.models import build_model

WORKERS = 2


class CommonRecipe:
    """One training of it: the net and learning rates of `config`, the images of its training split.

    Args:
        store: of small RGB images in arrays.
    """

    def __init__(self, config: Config, store: Store) -> None:
        recipe, manifest = config.recipe, store.manifest
        torch.manual_seed(config.seed)
        self.net: nn.Module = build_model(
            **asdict(config.model), num_classes=len(manifest.classes), in_channels=manifest.channels
        )
        self._optimiser = torch.optim.SGD(
            self.net.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )
        self._batches = self._endless(_loader(config, store))

    def step(self, lr: float) -> Tensor:
        """One step; the batch's mean loss."""
        images, labels = next(self._batches)
        for group in self._optimiser.param_groups:
            group["lr"] = lr
        loss = F.cross_entropy(self.net(images), labels)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return loss

    @staticmethod
    def _endless(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader


def common_rate(config: Config, store: Store) -> float:
    """Steps a second, after a first window of steps in which the loading processes start."""
    training, warm = CommonRecipe(config, store), config.trainer.log_every_steps
    start, loss = 0.0, 0.0
    for step in range(config.recipe.max_steps):
        if step == warm:
            start = time.perf_counter()
        loss += training.step(config.recipe.lr).item()  # as their progress bars do
    return (config.recipe.max_steps - warm) / (time.perf_counter() - start)


def _loader(config: Config, store: Store) -> DataLoader[Any]:
    """torchvision's CIFAR10 with the transforms of Sec. 4.2, over the store's images instead of its own download."""
    from torchvision.datasets import CIFAR10
    from torchvision.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToTensor

    records, statistics = store.train(), store.statistics(config.data.split)
    indices, _ = store.split_indices(config.data.split)
    side = store.manifest.height
    dataset = CIFAR10.__new__(CIFAR10)  # its constructor wants the archive
    dataset.data = np.asarray(records.images)[indices]  # type: ignore[union-attr]
    dataset.targets = records.labels[indices].tolist()
    dataset.target_transform = None
    dataset.transform = Compose(
        [
            RandomCrop(side, padding=config.recipe.augment.padding),
            RandomHorizontalFlip(),
            ToTensor(),
            Normalize(statistics.mean.tolist(), statistics.std.tolist()),
        ]
    )
    return DataLoader(dataset, config.recipe.batch_size, shuffle=True, num_workers=WORKERS, drop_last=True)
