"""Evaluation against bare forward passes, and the choice of members from cached probabilities."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks import rates
from benchmarks.harness import Bench, Measured, Row, quiet
from benchmarks.synthetic import changed, paper_config
from benchmarks.training import KEPT, title
from pipeline.config import AugmentConfig, EnsembleConfig, ModelConfig
from pipeline.ensemble.build import choose
from pipeline.ensemble.forward import average
from pipeline.ensemble.members import Source
from pipeline.ensemble.predictions import FOLDER, Images, keep, kept, validation_images
from pipeline.evaluation.errors import top_k_error
from pipeline.record import Net
from pipeline.run.fit import fit
from pipeline.run.weights import BEST
from pipeline.tracking.location import Location

CANDIDATES, SIZE = 50, 10  # SIZE members are chosen
RESELECTED_S = 1.0


def section(bench: Bench, depth: int = 20, batch_size: int = 128) -> list[Measured]:
    return [bench.measure(row) for row in (forward_row(bench, depth, batch_size), selection_row(bench))]


def forward_row(bench: Bench, depth: int, batch_size: int) -> Row:
    """Probabilities of validation images, by a net that has trained for two steps."""
    runs = bench.folder("evaluated")
    config = changed(paper_config(bench.store, runs, depth), recipe={"batch_size": batch_size, "max_steps": 2})
    images = validation_images(bench.store)
    # A real evaluation is of 5,000 images or more; reading the weights should not weigh much more here.
    images = replace(images, indices=images.indices[: 2 * bench.effort.images])
    with quiet():
        fit(config, bench.store.path, track=False)
        (weights,) = runs.glob(f"*/{BEST}")
        rates.probabilities_rate(weights, images, bench.device)  # imports, and kernels for these shapes
    return Row(
        name=f"evaluation, {title(config)}",
        unit="images/s",
        bar=KEPT,
        ours=partial(rates.probabilities_rate, weights, images, bench.device),
        reference=partial(rates.forward_rate, config, bench.store, bench.device, len(images.indices)),
    )


def selection_row(bench: Bench) -> Row:
    """The three ways to choose members, against reading the same probabilities once."""
    runs = bench.folder("selected")
    source = Source(store=bench.store, location=Location(""), runs=runs, device=bench.device, workers=1)
    images = validation_images(bench.store)
    candidates = _candidates(source, images)
    return Row(
        name=f"three choices of {SIZE} members from {CANDIDATES}, {len(images.indices):,} images each",
        unit="s",
        bar=RESELECTED_S,
        judged="ours <=",
        ours=partial(_selection_s, source, candidates, images),
        reference=partial(_reading_s, source, candidates, images),
    )


def _selection_s(source: Source, candidates: list[Net], images: Images) -> float:
    """Seconds from candidates to the errors of three ensembles, where no member's weights exist."""
    start = time.perf_counter()
    for selection in ("best_per_depth", "top_k", "greedy"):
        config = EnsembleConfig(selection=selection, size=SIZE)
        chosen = choose(source, config, candidates, images, source.runs)
        probabilities = [source.predict(net, images, source.runs) for net in chosen]
        top_k_error(average(probabilities, [net.weight or 0.0 for net in chosen]), images.labels, 1)
    return time.perf_counter() - start


def _reading_s(source: Source, candidates: list[Net], images: Images) -> float:
    """Seconds to read and add up the same arrays once."""
    start = time.perf_counter()
    total = np.zeros((len(images.indices), len(images.store.manifest.classes)))
    for candidate in candidates:
        probabilities = kept(candidate.checkpoint_sha256, images, source.runs / FOLDER)
        assert probabilities is not None
        total += probabilities
    return time.perf_counter() - start


def _candidates(source: Source, images: Images) -> list[Net]:
    """Made-up nets by validation error, of which only the probabilities exist: no run, no weights."""
    rng = np.random.default_rng(0)
    classes = len(images.store.manifest.classes)
    candidates = []
    for i in range(CANDIDATES):
        logits = rng.normal(size=(len(images.indices), classes)) + 3 * np.eye(classes)[images.labels]
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        sha256 = hashlib.sha256(str(i).encode()).hexdigest()
        keep(sha256, images, source.runs / FOLDER, probabilities.astype(np.float32))
        err1 = top_k_error(probabilities, images.labels, 1)
        depth = (20, 32, 44, 56, 110)[i % 5]
        candidates.append(
            Net(
                key=f"key{i}",
                model=ModelConfig(depth=depth, residual=True, shortcut="A"),
                num_classes=classes,
                in_channels=3,
                normalize="channel",
                augment=AugmentConfig(crop=32),
                data=images.store.manifest.content_hash,
                split="holdout",
                seed=i,
                val_err1=err1,
                checkpoint_sha256=sha256,
            )
        )
    return sorted(candidates, key=lambda net: net.val_err1 or 0.0)
