"""Rates of the project's training, loading and evaluation, and of loops that do the same arithmetic without it.

A rate of training leaves out start-up and the ends of epochs (validation, checkpoint): on either side, a first window
of steps runs untimed. B images a batch, C channels, H x W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.synthetic import changed
from pipeline.config import Config
from pipeline.data.store import Store
from pipeline.ensemble.forward import ready
from pipeline.ensemble.predictions import BATCH, Images, probabilities
from pipeline.fast.compiled import compile_net
from pipeline.learn.input.module import ImageData
from pipeline.learn.models import build_model
from pipeline.learn.training.classifier import Classifier
from pipeline.learn.training.precision import float32_products, resolve
from pipeline.run.fit import fit
from pipeline.tracking import journal

WARM_UP = 5  # one part in this many of the steps runs untimed


def fit_rate(config: Config, store: Store) -> float:
    """Steps a second of a new run of `fit`: data, augmentation, Lightning, journal; MLflow aside.

    The run's own journal tells the time, so nothing is hooked in. On a GPU an entry waits for the work before it, as it
    reads the metrics back.
    """
    with TemporaryDirectory() as runs:
        fit(changed(config, paths={"runs": runs}), store.path, track=False)
        return journal_rate(Path(runs))


def journal_rate(runs: Path) -> float:
    """Steps a second between the first and the last entry about training in the journal of the one run in `runs`."""
    (path,) = runs.glob(f"*/{journal.NAME}")
    entries = [event for event in journal.read(path)[0] if "train/loss" in event.get("values", ())]
    first, last = entries[0], entries[-1]
    return (last["step"] - first["step"]) / ((last["time"] - first["time"]) / 1000)


def bare_rate(config: Config, store: Store, device: torch.device) -> float:
    """Steps a second of a plain loop: the same net, optimiser, precision and memory format, one batch in memory.

    It is compiled only where trainer.compile is true.
    """
    recipe, precision = config.recipe, resolve(config.recipe.precision, config.trainer.accelerator)
    torch.backends.cudnn.benchmark = device.type == "cuda"  # as `fit`
    net, images, labels = ready_to_train(config, store, device)
    (optimiser,) = Classifier(net, recipe).configure_optimizers()
    warm, start = config.trainer.log_every_steps, 0.0
    with float32_products(precision):
        for step in range(recipe.max_steps):
            if step == warm:
                start = now(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = net(images)
            optimiser.zero_grad()
            F.cross_entropy(logits.float(), labels).backward()
            optimiser.step()
    return (recipe.max_steps - warm) / (now(device) - start)


def ready_to_train(config: Config, store: Store, device: torch.device) -> tuple[nn.Module, Tensor, Tensor]:
    """On `device`: a new net, (B, C, H, W) float32 images in channels_last memory, (B,) int64 labels."""
    size, classes = config.recipe.batch_size, len(store.manifest.classes)
    torch.manual_seed(config.seed)
    net = new_net(config, store).to(device)
    if config.trainer.compile is True:
        compile_net(net)
    return net, batch_of(size, store, device), torch.randint(classes, (size,), device=device)


def batch_rate(config: Config, store: Store, device: torch.device, batches: int) -> float:
    """Images a second that loader and augmentation deliver to the device when nothing else runs."""
    recipe = config.recipe
    data = ImageData(store.path, config.data.split, recipe, config.seed, config.data.decoders)
    endless = _endless(data.train_dataloader())
    start = 0.0
    for batch in range(-max(1, batches // WARM_UP), batches):
        if batch == 0:
            start = now(device)
        data.on_after_batch_transfer(tuple(part.to(device) for part in next(endless)), 0)
    return batches * recipe.batch_size / (now(device) - start)


def probabilities_rate(weights: Path, images: Images, device: torch.device) -> float:
    """Images a second of the call that ensemble and evaluation make, with reading weights and writing results."""
    with TemporaryDirectory() as cache:
        start = now(device)
        probabilities(weights, images, Path(cache), device)
        return len(images.indices) / (now(device) - start)


@torch.inference_mode()
def forward_rate(config: Config, store: Store, device: torch.device, images: int) -> float:
    """Images a second of a plain loop over one batch in memory, in the fastest form that errs the same.

    That is float32 with batch norm folded into the convolutions: bfloat16 is faster and moves err1 by more than 0.02
    points. Evaluation does not let a GPU round convolutions to TF32 either.
    """
    net = ready(new_net(config, store).eval(), device)
    inputs = batch_of(BATCH, store, device)
    with float32_products("fp32"):
        start = now(device)
        for done in range(0, images, BATCH):
            net(inputs[: images - done])
        return images / (now(device) - start)


def lasting(config: Config, store: Store, device: torch.device, seconds: float) -> Config:
    """`config` with as many steps, within one epoch, as the bare loop makes in about `seconds` after its warm-up.

    Metrics are written every fifth of that and at least every 50 steps, the default, so the rate includes their cost.

    Raises:
        ValueError: an epoch of fewer than two steps.
    """
    epoch = len(store.split_indices(config.data.split)[0]) // config.recipe.batch_size
    if epoch < 2:
        raise ValueError(
            f"{store.path} holds too few images; training is timed over at least two batches of {config.recipe.batch_size}"
        )
    few = changed(config, recipe={"max_steps": 4}, trainer={"log_every_steps": 2})
    bare_rate(few, store, device)  # chooses, compiles and loads the kernels
    steps = int(seconds * bare_rate(few, store, device))
    return of_steps(config, min(max(2, steps + steps // WARM_UP), epoch))


def of_steps(config: Config, steps: int) -> Config:
    """`config` with `steps` steps and metrics often enough to time them."""
    return changed(config, recipe={"max_steps": steps}, trainer={"log_every_steps": min(50, max(1, steps // WARM_UP))})


def new_net(config: Config, store: Store) -> nn.Module:
    """Freshly initialised, in the configuration's memory format."""
    manifest = store.manifest
    net = build_model(config.model, len(manifest.classes), manifest.channels)
    return net.to(memory_format=torch.channels_last) if config.trainer.channels_last else net


def batch_of(size: int, store: Store, device: torch.device) -> Tensor:
    """(size, C, H, W) float32 in channels_last memory, as augmentation makes them."""
    manifest = store.manifest
    images = torch.randn(size, manifest.channels, manifest.height, manifest.width)
    return images.contiguous(memory_format=torch.channels_last).to(device)


def common_rate(config: Config, store: Store) -> float:
    """Steps a second of CIFAR-10 as public repositories train it: torchvision, PIL, two workers, float32, NCHW."""
    recipe, warm = config.recipe, config.trainer.log_every_steps
    net = new_net(changed(config, trainer={"channels_last": False}), store)
    optimiser = torch.optim.SGD(
        net.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov
    )
    batches = _endless(_common_loader(config, store))
    start, total = 0.0, 0.0
    for step in range(recipe.max_steps):
        if step == warm:  # the loading processes have started
            start = time.perf_counter()
        images, labels = next(batches)
        loss = F.cross_entropy(net(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.item()  # as their progress bars do
    return (recipe.max_steps - warm) / (time.perf_counter() - start)


def _common_loader(config: Config, store: Store) -> DataLoader[Any]:
    """torchvision's CIFAR10 with the transforms of Sec. 4.2, over the store's images instead of its own download."""
    from torchvision.datasets import CIFAR10
    from torchvision.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToTensor

    records, statistics = store.train(), store.statistics(config.data.split)
    indices, _ = store.split_indices(config.data.split)
    dataset = CIFAR10.__new__(CIFAR10)  # its constructor wants the archive
    dataset.data = np.asarray(records.images)[indices]  # type: ignore[union-attr]
    dataset.targets = records.labels[indices].tolist()
    dataset.target_transform = None
    crop = RandomCrop(store.manifest.height, padding=config.recipe.augment.padding)
    normalize = Normalize(statistics.mean.tolist(), statistics.std.tolist())
    dataset.transform = Compose([crop, RandomHorizontalFlip(), ToTensor(), normalize])
    return DataLoader(dataset, config.recipe.batch_size, shuffle=True, num_workers=2, drop_last=True)


def _endless(loader: Any) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def now(device: torch.device) -> float:
    """Seconds, once the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
