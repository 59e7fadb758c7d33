"""Evaluation against bare forward passes, and the choice of members from what they said before."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import rates
from benchmarks.bench import Bench
from benchmarks.configs import changed, paper_config
from benchmarks.harness import Measured, Row, quiet
from benchmarks.training import KEPT, title
from pipeline.config import EnsembleConfig
from pipeline.ensemble.build import Maker, choose
from pipeline.ensemble.members import Candidate
from pipeline.ensemble.predictions import FOLDER, Images, keep, kept, validation_images
from pipeline.ensemble.selection import average
from pipeline.evaluation.errors import top_k_error
from pipeline.learn.models import net_name
from pipeline.run.checkpoint import BEST
from pipeline.run.fit import fit
from pipeline.tracking.store import Location

MEMBERS, SIZE = 50, 10  # candidates, and members of the ensemble
RESELECTED_S = 1.0


def section(bench: Bench, depth: int = 20, batch_size: int = 128) -> list[Measured]:
    return [bench.measure(row) for row in (forward_row(bench, depth, batch_size), selection_row(bench))]


def forward_row(bench: Bench, depth: int, batch_size: int) -> Row:
    """Probabilities of validation images, by a net that has trained for two steps."""
    config = changed(
        paper_config(bench.store, bench.folder("evaluated"), depth), recipe={"batch_size": batch_size, "max_steps": 2}
    )
    images = validation_images(bench.store)
    # A real evaluation is of 5,000 images or more; reading the weights should not weigh much more here.
    images = replace(images, indices=images.indices[: 2 * bench.effort.images])
    with quiet():
        weights = Path(fit(config, bench.store.path, track=False).folder) / BEST
        rates.probabilities_rate(weights, images, bench.device)  # imports, and kernels for these shapes
    return Row(
        name=f"evaluation, {title(config)}",
        unit="images/s",
        bar=KEPT,
        ours=lambda: rates.probabilities_rate(weights, images, bench.device),
        reference=lambda: rates.forward_rate(config, bench.store, bench.device, len(images.indices)),
    )


def selection_row(bench: Bench) -> Row:
    """The three ways to choose members, each from what all candidates said of the validation images."""
    maker = Maker(
        store=bench.store, location=Location(""), runs=bench.folder("selected"), device=bench.device, workers=1
    )
    images = validation_images(bench.store)
    candidates = _candidates(maker, images)
    return Row(
        name=f"three choices of {SIZE} members from {MEMBERS}, {len(images.indices):,} images each",
        unit="s",
        bar=RESELECTED_S,
        judged="ours <=",
        ours=lambda: _selection_s(maker, candidates, images),
        reference=lambda: _reading_s(maker, candidates, images),
    )


def _selection_s(maker: Maker, candidates: list[Candidate], images: Images) -> float:
    """Seconds from candidates to the errors of the three ensembles, none of whose members' weights are anywhere."""
    start = time.perf_counter()
    for selection in ("best_per_depth", "top_k", "greedy"):
        config = EnsembleConfig(selection=selection, size=SIZE, temperature="none", members=[])
        chosen = choose(maker, config, candidates, images, maker.runs)
        said = [maker.predict(candidate, images, maker.runs) for candidate, _ in chosen]
        top_k_error(average(said, [weight for _, weight in chosen]), images.labels, 1)
    return time.perf_counter() - start


def _reading_s(maker: Maker, candidates: list[Candidate], images: Images) -> float:
    """Seconds to read and add up the same arrays once."""
    start = time.perf_counter()
    total: NDArray[np.floating] | float = 0.0
    for candidate in candidates:
        found = kept(candidate.checkpoint_sha256, images, maker.runs / FOLDER)
        assert found is not None
        total = total + found
    return time.perf_counter() - start


def _candidates(maker: Maker, images: Images) -> list[Candidate]:
    """Trained nets by validation error, as they are where only what they said is left: no run, no weights."""
    rng = np.random.default_rng(0)
    num_classes = len(images.store.manifest.classes)
    found = []
    for i in range(MEMBERS):
        depth = (20, 32, 44, 56, 110)[i % 5]
        scores = rng.normal(size=(len(images.indices), num_classes)) + 3 * np.eye(num_classes)[images.labels]
        said = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        sha256 = hashlib.sha256(str(i).encode()).hexdigest()
        keep(sha256, images, maker.runs / FOLDER, said.astype(np.float32))
        found.append(
            Candidate(
                run_id=f"run{i}",
                key=f"key{i}",
                model=net_name("cifar", depth),
                depth=depth,
                residual=True,
                lr=0.1,
                seed=i,
                steps=1,
                val_err1=top_k_error(said, images.labels, 1),
                checkpoint_sha256=sha256,
                tags={},
            )
        )
    return sorted(found, key=lambda candidate: candidate.val_err1)
