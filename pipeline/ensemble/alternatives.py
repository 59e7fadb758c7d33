"""Other ways to choose members from the same nets, beside the ensemble that was built.

Every way chooses on validation images. The test errors show how much the choice of a way matters; they choose none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from numpy.typing import NDArray

from pipeline.config import EnsembleConfig
from pipeline.ensemble.build import averages, calibrated, choose
from pipeline.ensemble.judge import errors_of
from pipeline.ensemble.members import Source
from pipeline.ensemble.predictions import validation_images
from pipeline.evaluation.errors import Labels, top_k_error
from pipeline.record import Net

Way = Literal["top_k", "best_per_depth", "deepest_twice", "one_net", "greedy"]


def alternatives(
    source: Source, size: int, tested: Sequence[tuple[Net, NDArray[Any]]], labels: Labels, folder: Path
) -> list[dict[str, Any]]:
    """For each way to choose, with and without temperatures: members, validation error, test errors and intervals.

    Args:
        size: most members of an ensemble.
        tested: nets and their probabilities (N, K) on the test images; snapshots and nets without a validation error
            take no part.
        labels: (N,) true classes.
        folder: for weights that have to be fetched.
    Returns:
        [] unless there are three candidates, since two nets leave no choice. A way that chooses a single net is left out.
    """
    probabilities = {net.checkpoint_sha256: values for net, values in tested}
    nets = {net.checkpoint_sha256: net for net, _ in tested if net.val_err1 is not None and not net.snapshot}
    candidates = sorted(nets.values(), key=lambda net: net.rank)
    candidates = [replace(net, weight=None, temperature=1.0) for net in candidates]  # of the ensemble that was built
    if len(candidates) < 3:
        return []
    rows = (
        _row(
            source, EnsembleConfig(selection=way, size=size, temperature=temperature), candidates, probabilities, folder
        )
        for way in get_args(Way)
        for temperature in ("none", "validation")
    )
    return [{**row, **errors_of(average, labels)} for row, average in rows if len(row["members"]) > 1]


def _row(
    source: Source, config: EnsembleConfig, candidates: list[Net], tested: Mapping[str, NDArray[Any]], folder: Path
) -> tuple[dict[str, Any], NDArray[Any]]:
    """The facts of one way, and its average on the test images."""
    images = validation_images(source.store)
    chosen = choose(source, config, candidates, images, folder)
    predictions = [source.predict(net, images, folder) for net in chosen]
    members = calibrated(config, chosen, predictions, images)
    *_, on_validation = averages(members, predictions)
    *_, average = averages(members, [tested[net.checkpoint_sha256] for net in members])
    row = {
        "selection": config.selection,
        "temperature": config.temperature,
        "members": [net.name for net in members],
        "val_err1": top_k_error(on_validation, images.labels, 1),
    }
    return row, average
