"""Where an ensemble's gain comes from: seeds of one net, or nets of several depths ("six models of different depth").

Both averages are made of nets of one kind that were trained by one recipe, for as long as each other, on as many images
and from the same start, chosen by validation error alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.ensemble.averages import averages
from pipeline.ensemble.folder import Member
from pipeline.evaluation.evaluate import tested

Said = tuple[Member, NDArray[np.float32]]  # a net, and (N, K): what it says of the test images


def seeds_against_depths(nets: Sequence[Said], labels: NDArray[np.integer]) -> list[dict[str, Any]]:
    """For 1, 2, ... nets the test errors of two averages; [] unless there are two seeds of a net and two depths.

    seeds: of the net that has the most, at one learning rate. depths: the best net of each depth. Of both the best on
    validation first, all weighing the same. `alone` is the mean test error of an average's nets, each by itself.

    Args:
        nets: a net may be told more than once; those trained on all images cannot be chosen and take no part.
        labels: (N,) true classes.
    """
    once = {net.checkpoint_sha256: (net, said) for net, said in nets if net.val_err1 is not None}
    ranked = sorted(once.values(), key=lambda pair: (pair[0].val_err1, pair[0].checkpoint_sha256))
    seeds = _most_seeds(ranked)
    if not seeds:
        return []
    net = seeds[0][0]
    alike = [pair for pair in ranked if _training(pair[0]) == _training(net)]
    depths = _first([pair[0].depth for pair in alike], alike)
    size = min(len(seeds), len(depths))
    if size < 2:
        return []
    by_seed, by_depth = (_errors(chosen[:size], labels) for chosen in (seeds, depths))
    return [
        {"size": k, "net": net.model, "seeds": one, "depths": other}
        for k, (one, other) in enumerate(zip(by_seed, by_depth, strict=True), 1)
    ]


def _training(net: Member) -> Hashable:
    return net.residual, net.steps, net.num_train, net.start, net.recipe, bool(net.snapshot)


def _most_seeds(ranked: Sequence[Said]) -> list[Said]:
    """The runs that differ in their seed alone, where most do; of as many, those with the best run."""
    groups: dict[Hashable, list[Said]] = {}
    for net, said in ranked:
        groups.setdefault((net.model, net.lr, _training(net)), []).append((net, said))
    seeds = [_first([net.seed for net, _ in group], group) for group in groups.values()]
    return max(seeds, key=len, default=[])


def _first(what: Sequence[Hashable], ranked: Sequence[Said]) -> list[Said]:
    """The first of each kind of `what`."""
    found: dict[Hashable, Said] = {}
    for kind, pair in zip(what, ranked, strict=True):
        found.setdefault(kind, pair)
    return list(found.values())


def _errors(chosen: Sequence[Said], labels: NDArray[np.integer]) -> list[dict[str, Any]]:
    """Of the first net, the average of the first two, ..."""
    # As they are, whatever weight and temperature they have in the ensemble.
    equal = [replace(net, weight=1.0, temperature=1.0) for net, _ in chosen]
    said = [values for _, values in chosen]
    alone = [tested(values, labels)["test_err1"] for values in said]
    return [
        {
            "models": [net.model for net in equal[:k]],
            "alone": sum(alone[:k]) / k,
            **{key: value for key, value in tested(mean, labels).items() if key in ("test_err1", "ci95")},
        }
        for k, mean in enumerate(averages(equal, said), 1)
    ]
