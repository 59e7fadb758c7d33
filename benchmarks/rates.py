"""Rates of this project's training, loading and evaluation, and of bare PyTorch loops that do the same arithmetic.

A rate of training leaves out start-up and the ends of epochs (validation, checkpoint): a first window of steps runs
untimed, on either side. B images a batch, C channels, H x W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.configs import changed
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


def fit_rate(config: Config, store: Path) -> float:
    """Steps a second of `fit` (data, augmentation, Lightning, journal; MLflow aside), on a run of its own.

    The run's own journal tells the time: `fit` is timed as it is, with nothing hooked in. On a GPU an entry waits for
    the work before it, as the metrics in it are read back.
    """
    with TemporaryDirectory() as runs:
        result = fit(changed(config, paths={"runs": runs}), store, track=False)
        return journal_rate(Path(result.folder))


def journal_rate(folder: Path) -> float:
    """Steps a second between the first and the last entry about training in a run's journal."""
    events, _ = journal.read(folder / journal.NAME)
    entries = [event for event in events if "train/loss" in event.get("values", ())]
    first, last = entries[0], entries[-1]
    return (last["step"] - first["step"]) / ((last["time"] - first["time"]) / 1000)


def bare_rate(config: Config, store: Store, device: torch.device) -> float:
    """Steps a second of a plain loop: the same net, optimiser, precision and memory format, one batch in memory.

    Compiled where trainer.compile is true; auto, which is `fit`'s to decide, is plain.
    """
    recipe, manifest = config.recipe, store.manifest
    torch.manual_seed(config.seed)
    torch.backends.cudnn.benchmark = device.type == "cuda"  # as `fit`
    net = new_net(config, store).to(device)
    if config.trainer.compile is True:
        compile_net(net)
    images = batch_of(recipe.batch_size, store, device)
    labels = torch.randint(len(manifest.classes), (recipe.batch_size,), device=device)
    (optimiser,) = Classifier(net, recipe).configure_optimizers()
    precision = resolve(recipe.precision, config.trainer.accelerator)
    warm = config.trainer.log_every_steps
    start = 0.0
    with float32_products(precision):
        for step in range(recipe.max_steps):
            if step == warm:
                start = _now(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = F.cross_entropy(net(images).float(), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return (recipe.max_steps - warm) / (_now(device) - start)


def batch_rate(config: Config, store: Path, device: torch.device, batches: int) -> float:
    """Images a second that loader and augmentation hand over, on the device, when nothing else runs."""
    recipe = config.recipe
    data = ImageData(store, config.data.split, recipe.batch_size, recipe.augment, recipe.normalize, config.seed)
    endless = _endless(data)
    start = 0.0
    for batch in range(-max(1, batches // WARM_UP), batches):
        if batch == 0:
            start = _now(device)
        data.on_after_batch_transfer(tuple(part.to(device) for part in next(endless)), 0)
    return batches * recipe.batch_size / (_now(device) - start)


def probabilities_rate(weights: Path, images: Images, device: torch.device) -> float:
    """Images a second of the call that ensemble and evaluation make, reading weights and writing results included."""
    with TemporaryDirectory() as cache:
        start = _now(device)
        probabilities(weights, images, Path(cache), device)
        return len(images.indices) / (_now(device) - start)


@torch.inference_mode()
def forward_rate(config: Config, store: Store, device: torch.device, images: int) -> float:
    """Images a second of a plain loop over one batch in memory, with what was fastest among that which errs the same.

    That is float32 with batch norm folded into the convolutions: bfloat16 is faster and moves err1 by more than 0.02
    points.
    """
    net = ready(new_net(config, store).eval(), device)
    inputs = batch_of(BATCH, store, device)
    sizes = [min(BATCH, images - done) for done in range(0, images, BATCH)]
    # Evaluation does not let a GPU round convolutions to TF32.
    with float32_products("fp32"):
        start = _now(device)
        for size in sizes:
            net(inputs[:size])
        return images / (_now(device) - start)


def lasting(config: Config, store: Store, device: torch.device, seconds: float) -> Config:
    """`config` with as many steps, within one epoch, as the bare loop makes in about `seconds` after its warm-up.

    Training writes its metrics once every fifth of that, and every 50 steps at the latest, as it does by default: what
    they cost is in the rate.

    Raises:
        ValueError: an epoch of fewer than two steps.
    """
    epoch = len(store.split_indices(config.data.split)[0]) // config.recipe.batch_size
    if epoch < 2:
        raise ValueError(
            f"{store.path} holds too few images; training is timed over at least two batches of {config.recipe.batch_size}"
        )
    few = changed(config, recipe={"max_steps": 4}, trainer={"log_every_steps": 2})
    bare_rate(few, store, device)  # the first kernels are chosen, compiled and loaded here
    steps = int(seconds * bare_rate(few, store, device))
    steps = min(max(2, steps + steps // WARM_UP), epoch)
    return changed(config, recipe={"max_steps": steps}, trainer={"log_every_steps": min(50, max(1, steps // WARM_UP))})


def accelerator(device: torch.device) -> str:
    """trainer.accelerator for a torch device."""
    return "gpu" if device.type == "cuda" else "cpu"


def new_net(config: Config, store: Store) -> torch.nn.Module:
    """Freshly initialised, in the configuration's memory format."""
    manifest = store.manifest
    net = build_model(**asdict(config.model), num_classes=len(manifest.classes), in_channels=manifest.channels)
    return net.to(memory_format=torch.channels_last) if config.trainer.channels_last else net


def batch_of(size: int, store: Store, device: torch.device) -> Tensor:
    """(B, C, H, W) float32 in channels_last memory, as augmentation makes them."""
    manifest = store.manifest
    images = torch.randn(size, manifest.channels, manifest.height, manifest.width)
    return images.contiguous(memory_format=torch.channels_last).to(device)


def _endless(data: ImageData) -> Iterator[tuple[Tensor, Tensor]]:
    loader = data.train_dataloader()
    while True:
        yield from loader


def _now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
