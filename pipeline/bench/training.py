"""Training through `fit` against bare PyTorch loops."""

from __future__ import annotations

import torch

from pipeline.bench import rates
from pipeline.bench.bench import Bench
from pipeline.bench.configs import changed, paper_config
from pipeline.bench.harness import Measured, Row
from pipeline.config import Config
from pipeline.data.store import Store
from pipeline.models import net_name

KEPT = 0.95  # share of the bare loop's speed that the pipeline must keep


def section(bench: Bench, depth: int = 20, batch_size: int = 128) -> list[Measured]:
    """Step rates and the loader's own speed."""
    config = changed(paper_config(bench.store, bench.folder("runs"), depth), recipe={"batch_size": batch_size})
    config = rates.lasting(config, bench.store, bench.device, bench.effort.seconds)
    rows = [step_row(config, bench.store, bench.device), batch_row(config, bench)]
    return [bench.measure(row) for row in rows]


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
    """For example ResNet-20."""
    model = config.model
    name = net_name(model.family, model.depth, model.residual, model.shortcut, model.stride_on)
    return name.replace("resnet", "ResNet-").replace("_", " ")
