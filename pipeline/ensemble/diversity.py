"""Where an ensemble's gain comes from: seeds of one net, or nets of several depths ("six models of different depth").

Both averages are made of nets of one kind that were trained by one recipe, for as long as each other, on as many images
and from the same start, chosen by validation error alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.ensemble.averaging import running_averages
from pipeline.evaluation.errors import top_k_error, wrong
from pipeline.evaluation.intervals import wilson
from pipeline.record import Net

Tested = tuple[Net, NDArray[np.float32]]  # a net and its probabilities (N, K) on the test images


def seeds_against_depths(nets: Sequence[Tested], labels: NDArray[np.integer]) -> list[dict[str, Any]]:
    """For 1, 2, ... nets the test errors of two averages; [] unless there are two seeds of a net and two depths.

    seeds: of the net that has the most, at one learning rate. depths: the best net of each depth. Of both the best on
    validation first, all weighing the same. `alone` is the mean test error of an average's nets, each by itself.

    Args:
        nets: a net may occur more than once; those trained on all images cannot be chosen and take no part.
        labels: (N,) true classes.
    """
    once = {net.checkpoint_sha256: (net, values) for net, values in nets if net.val_err1 is not None}
    ranked = sorted(once.values(), key=lambda pair: (pair[0].val_err1, pair[0].checkpoint_sha256))
    seeds = _most_seeds(ranked)
    if not seeds:
        return []
    net = seeds[0][0]
    alike = [pair for pair in ranked if _training(pair[0]) == _training(net)]
    depths = _first([net.model.depth for net, _ in alike], alike)
    size = min(len(seeds), len(depths))
    if size < 2:
        return []
    by_seed, by_depth = (_errors(chosen[:size], labels) for chosen in (seeds, depths))
    return [
        {"size": k, "net": net.name, "seeds": one, "depths": other}
        for k, (one, other) in enumerate(zip(by_seed, by_depth, strict=True), 1)
    ]


def _training(net: Net) -> Hashable:
    return net.model.residual, net.steps, net.setting, bool(net.snapshot)


def _most_seeds(ranked: Sequence[Tested]) -> list[Tested]:
    """The runs that differ in their seed alone, where most do; of as many, those with the best run."""
    groups: dict[Hashable, list[Tested]] = {}
    for pair in ranked:
        groups.setdefault((pair[0].name, pair[0].lr, _training(pair[0])), []).append(pair)
    seeds = [_first([net.seed for net, _ in group], group) for group in groups.values()]
    return max(seeds, key=len, default=[])


def _first(kinds: Sequence[Hashable], ranked: Sequence[Tested]) -> list[Tested]:
    """The first pair of each kind."""
    firsts: dict[Hashable, Tested] = {}
    for kind, pair in zip(kinds, ranked, strict=True):
        firsts.setdefault(kind, pair)
    return list(firsts.values())


def _errors(chosen: Sequence[Tested], labels: NDArray[np.integer]) -> list[dict[str, Any]]:
    """Of the first net, the average of the first two, ...; whatever weight and temperature they have in the ensemble."""
    values = [probabilities for _, probabilities in chosen]
    alone = [top_k_error(probabilities, labels, 1) for probabilities in values]
    rows = []
    for k, mean in enumerate(running_averages(values, [1.0] * len(values)), 1):
        missed = wrong(mean, labels)
        interval = list(wilson(int(missed.sum()), len(labels)))
        names = [net.name for net, _ in chosen[:k]]
        rows.append({"models": names, "alone": sum(alone[:k]) / k, "test_err1": float(missed.mean()), "ci95": interval})
    return rows
