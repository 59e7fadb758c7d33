"""What `make bench` measures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pipeline.bench import rates
from pipeline.bench.configs import changed, paper_config
from pipeline.bench.harness import Row, quiet
from pipeline.config import Config
from pipeline.data.store import Store
from pipeline.ensemble.predictions import validation_images
from pipeline.models import net_name
from pipeline.training.checkpoint import BEST
from pipeline.training.fit import fit

KEPT = 0.95  # share of the bare loop's speed that the pipeline must keep


@dataclass(frozen=True)
class Effort:
    """How much is run."""

    pairs: int
    seconds: float  # of training in each half of a pair, start-up and warm-up aside
    batches: int  # of the loader alone
    images: int  # evaluated
    stored: int  # images of the synthetic store


FULL = Effort(pairs=5, seconds=6.0, batches=300, images=5_000, stored=50_000)
QUICK = Effort(pairs=3, seconds=1.5, batches=60, images=1_000, stored=12_000)


def rows(store: Store, work: Path, effort: Effort, depth: int = 20, batch_size: int = 128) -> list[Row]:
    """The measurements on `store`, on a GPU where there is one.

    Args:
        work: an existing folder for what they need.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = changed(paper_config(store, work / "runs", depth), recipe={"batch_size": batch_size})
    config = rates.lasting(config, store, device, effort.seconds)
    return [
        step_row(config, store, device),
        _batch_row(config, store, device, effort),
        _evaluation_row(config, store, work, device, effort),
    ]


def step_row(config: Config, store: Store, device: torch.device) -> Row:
    """Training through `fit` against the bare loop, both as `config` says."""
    manifest = store.manifest
    return Row(
        name=f"training step rate, {_title(config)}, {manifest.height}x{manifest.width}, batch {config.recipe.batch_size}",
        unit="steps/s",
        bar=KEPT,
        ours=lambda: rates.fit_rate(config, store.path),
        reference=lambda: rates.bare_rate(config, store, device),
    )


def _batch_row(config: Config, store: Store, device: torch.device, effort: Effort) -> Row:
    return Row(
        name="augmentation and batching alone, against the bare step",
        unit="images/s",
        bar=None,
        ours=lambda: rates.batch_rate(config, store.path, device, effort.batches),
        reference=lambda: rates.bare_rate(config, store, device) * config.recipe.batch_size,
    )


def _evaluation_row(config: Config, store: Store, work: Path, device: torch.device, effort: Effort) -> Row:
    """Probabilities of validation images, by a net that has trained for two steps."""
    images = validation_images(store)
    images = replace(images, indices=images.indices[: effort.images])
    with quiet():
        brief = changed(config, recipe={"max_steps": 2}, paths={"runs": str(work / "evaluated")})
        weights = Path(fit(brief, store.path, track=False).folder) / BEST
        rates.probabilities_rate(weights, images, device)  # imports, and kernels for these shapes
    return Row(
        name=f"evaluation, {_title(config)}",
        unit="images/s",
        bar=KEPT,
        ours=lambda: rates.probabilities_rate(weights, images, device),
        reference=lambda: rates.forward_rate(config, store, device, len(images.indices)),
    )


def _title(config: Config) -> str:
    """For example ResNet-20."""
    model = config.model
    name = net_name(model.family, model.depth, model.residual, model.shortcut, model.stride_on)
    return name.replace("resnet", "ResNet-").replace("_", " ")
