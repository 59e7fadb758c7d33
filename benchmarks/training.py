"""Training through `fit` against bare PyTorch loops, and against the recipe that is common in public."""

from __future__ import annotations

import torch

from benchmarks import rates
from benchmarks.bench import Bench
from benchmarks.configs import changed, paper_config
from benchmarks.harness import Measured, Row
from benchmarks.public_recipe import common_rate
from pipeline.config import Config
from pipeline.data.store import Store
from pipeline.fast.choice import compiles
from pipeline.learn.models import net_name
from pipeline.learn.training.precision import resolve

KEPT = 0.95  # share of the bare loop's speed that the pipeline must keep
TIMES_COMMON = 2.4  # how much faster than the common recipe it must be on two cores with AMX


def section(bench: Bench, batch_size: int = 128) -> list[Measured]:
    """Step rates by net, the common recipe, and the loader's own speed."""
    first, *deeper = (_config(bench, depth, batch_size) for depth in bench.effort.depths)
    rows = [step_row(first, bench.store, bench.device)]
    fastest = _fastest(first, bench)
    if fastest.trainer.compile:
        rows.append(step_row(fastest, bench.store, bench.device))
    rows += [step_row(config, bench.store, bench.device) for config in deeper]
    rows += [common_row(fastest, bench), batch_row(first, bench)]
    return [bench.measure(row) for row in rows]


def _config(bench: Bench, depth: int, batch_size: int) -> Config:
    """Plain steps: auto would make short trainings plain and long ones not."""
    config = paper_config(bench.store, bench.folder(f"runs-{depth}"), depth)
    config = changed(config, recipe={"batch_size": batch_size}, trainer={"compile": False})
    return rates.lasting(config, bench.store, bench.device, bench.effort.seconds)


def _fastest(config: Config, bench: Bench) -> Config:
    """`config` as trainer.compile=auto would run the paper's 64k steps of it."""
    net, store = rates.new_net(config, bench.store), bench.store
    precision = resolve(config.recipe.precision, config.trainer.accelerator)
    shape = (config.recipe.batch_size, store.manifest.channels, store.manifest.height, store.manifest.width)
    steps = paper_config(store, bench.work).recipe.max_steps
    chosen = bench.effort.compiled and compiles("auto", net, shape, precision, bench.device, steps)
    return changed(config, trainer={"compile": chosen})


def step_row(config: Config, store: Store, device: torch.device) -> Row:
    """Training through `fit` against the bare loop, both as `config` says."""
    manifest = store.manifest
    return Row(
        name=f"training step rate, {title(config)}, {manifest.height}x{manifest.width}, batch {config.recipe.batch_size}",
        unit="steps/s",
        bar=KEPT,
        ours=lambda: rates.fit_rate(config, store.path),
        reference=lambda: rates.bare_rate(config, store, device),
    )


def common_row(config: Config, bench: Bench) -> Row:
    return Row(
        name=f"training step rate, {title(config)}, against torchvision, PIL and fp32",
        unit="steps/s",
        bar=TIMES_COMMON if bench.device.type == "cpu" else None,
        ours=lambda: rates.fit_rate(config, bench.store.path),
        reference=lambda: common_rate(config, bench.store),
    )


def batch_row(config: Config, bench: Bench) -> Row:
    store, device = bench.store, bench.device
    return Row(
        name="augmentation and batching alone, against the bare step",
        unit="images/s",
        bar=None,
        ours=lambda: rates.batch_rate(config, store.path, device, bench.effort.batches),
        reference=lambda: rates.bare_rate(config, store, device) * config.recipe.batch_size,
    )


def title(config: Config) -> str:
    """For example ResNet-20, or ResNet-20 compiled."""
    model = config.model
    name = net_name(model.family, model.depth, model.residual, model.shortcut, model.stride_on)
    compiled = " compiled" if config.trainer.compile is True else ""
    return name.replace("resnet", "ResNet-").replace("_", " ") + compiled
