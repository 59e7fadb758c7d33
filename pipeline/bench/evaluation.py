"""Evaluation and ensembles against bare forward passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.bench import rates
from pipeline.bench.bench import Bench
from pipeline.bench.configs import changed, paper_config
from pipeline.bench.harness import Measured, Row, quiet
from pipeline.bench.training import KEPT, title
from pipeline.ensemble.predictions import validation_images
from pipeline.training.checkpoint import BEST
from pipeline.training.fit import fit


def section(bench: Bench, depth: int = 20, batch_size: int = 128) -> list[Measured]:
    """Probabilities of validation images, by a net that has trained for two steps."""
    config = changed(
        paper_config(bench.store, bench.folder("evaluated"), depth), recipe={"batch_size": batch_size, "max_steps": 2}
    )
    images = validation_images(bench.store)
    images = replace(images, indices=images.indices[: bench.effort.images])
    with quiet():
        weights = Path(fit(config, bench.store.path, track=False).folder) / BEST
        rates.probabilities_rate(weights, images, bench.device)  # imports, and kernels for these shapes
    row = Row(
        name=f"evaluation, {title(config)}",
        unit="images/s",
        bar=KEPT,
        ours=lambda: rates.probabilities_rate(weights, images, bench.device),
        reference=lambda: rates.forward_rate(config, bench.store, bench.device, len(images.indices)),
    )
    return [bench.measure(row)]
