"""Which nets join an ensemble. NumPy alone; the same input, the same choice.

M candidates, N validation images, K classes. A choice is a list of (candidate's index, weight), in the candidates'
order, weights summing to 1. Where fewer candidates are given than asked for, all that are eligible are taken. An
earlier candidate wins a tie.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.ensemble.averaging import Probabilities
from pipeline.evaluation.errors import require_countable

Choice = list[tuple[int, float]]


def top_k(errors: Sequence[float], size: int) -> Choice:
    """The `size` candidates with the lowest validation errors, equally weighted.

    Args:
        errors: (M,) fractions.
    Raises:
        ValueError: no candidate, or size < 1.
    """
    _require_some(len(errors), size)
    return _equal(sorted(range(len(errors)), key=lambda i: errors[i])[:size])


def best_per_depth(errors: Sequence[float], nets: Sequence[Hashable], size: int) -> Choice:
    """The best candidate of each net, the `size` best of these, equally weighted: "models of different depth".

    Args:
        errors: (M,) fractions.
        nets: (M,) what makes two candidates the same net: (depth, residual). plain-20 and ResNet-20 are two nets.
    Raises:
        ValueError: as `top_k`.
    Paper: Sec. 4.1, "We combine six models of different depth to form an ensemble".
    """
    _require_some(len(errors), size)
    best: dict[Hashable, int] = {}
    for i in sorted(range(len(errors)), key=lambda i: errors[i]):
        best.setdefault(nets[i], i)
    return _equal(list(best.values())[:size])


def deepest_twice(errors: Sequence[float], nets: Sequence[tuple[int, bool, str]], size: int) -> Choice:
    """The two best runs of the deepest net, and the best run of each of `size` - 2 other depths of its kind; equally weighted.

    Args:
        nets: (M,) depth, then what kind of net it is: whether it is residual, and more. Of two equally deep, the residual
            one counts as the deeper. With residual nets the deepest, plain ones take no part: the paper's are no members.
    Raises:
        ValueError: as `top_k`.
    Paper: Sec. 4.1, "(only with two 152-layer ones at the time of submitting)".
    """
    _require_some(len(errors), size)
    order = sorted(range(len(errors)), key=lambda i: errors[i])
    deepest = max(nets)
    pair = [i for i in order if nets[i] == deepest][:2]
    others: dict[Hashable, int] = {}
    for i in order:
        if nets[i] != deepest and nets[i][1:] == deepest[1:]:
            others.setdefault(nets[i], i)
    return _equal([*pair, *others.values()][:size])


def one_net(errors: Sequence[float], nets: Sequence[Hashable], size: int) -> Choice:
    """The `size` best runs of the net that has the best run: seeds of one net, equally weighted.

    Args:
        nets: as `best_per_depth`.
    Raises:
        ValueError: as `top_k`.
    """
    _require_some(len(errors), size)
    order = sorted(range(len(errors)), key=lambda i: errors[i])
    return _equal([i for i in order if nets[i] == nets[order[0]]][:size])


def greedy(probabilities: Sequence[Probabilities], labels: NDArray[np.integer], size: int) -> Choice:
    """Forward selection with replacement (Caruana et al. 2004): `size` rounds, each adding the candidate that helps most.

    The average so far is compared by top-1 error, then by cross-entropy. A candidate that is added twice weighs twice.
    The rounds after the best average are dropped, so that a late addition cannot make the ensemble worse.

    Args:
        probabilities: (M,) arrays; they may be memory-mapped, one is looked at at a time.
        labels: (N,) true classes.
    Raises:
        ValueError: as `top_k`; shapes that differ; probabilities that are not finite.
    """
    _require_some(len(probabilities), size)
    for p in probabilities:
        require_countable(p, labels)
    total = _Sum(labels, probabilities[0].shape[1])
    picked: list[int] = []
    scores: list[tuple[float, float]] = []
    for _ in range(size):
        trials = [total.score_with(p) for p in probabilities]
        best = min(range(len(trials)), key=trials.__getitem__)
        picked.append(best)
        scores.append(trials[best])
        total.add(probabilities[best])
    kept = picked[: scores.index(min(scores)) + 1]
    return [(i, kept.count(i) / len(kept)) for i in sorted(set(kept))]


class _Sum:
    """Probabilities of the members so far, added up.

    The images lie along the last axis, where NumPy compares many at a time, and one buffer serves all scores: new memory
    for each would cost more than the arithmetic.
    """

    def __init__(self, labels: NDArray[np.integer], num_classes: int) -> None:
        self._sum = np.zeros((num_classes, len(labels)))
        self._trial = np.empty_like(self._sum)
        self._truth = labels * len(labels) + np.arange(len(labels))  # of each image, where its true class lies
        self._members = 0

    def add(self, probabilities: Probabilities) -> None:
        self._sum += probabilities.T
        self._members += 1

    def score_with(self, probabilities: Probabilities) -> tuple[float, float]:
        """Top-1 error and cross-entropy of the average of the members and one more."""
        trial = np.add(self._sum, probabilities.T, out=self._trial)
        truth = trial.take(self._truth)
        trial.put(self._truth, -np.inf)
        return float((trial.max(axis=0) >= truth).mean()), cross_entropy(truth / (self._members + 1))


def cross_entropy(truth: NDArray[np.floating]) -> float:
    """Mean of -log of (N,) probabilities of the true classes, in nats; those below float32's smallest count as that."""
    return float(-np.log(np.maximum(truth, np.finfo(np.float32).tiny)).mean())


def _equal(indices: list[int]) -> Choice:
    return [(i, 1 / len(indices)) for i in sorted(indices)]


def _require_some(candidates: int, size: int) -> None:
    if not candidates or size < 1:
        raise ValueError(f"{candidates} candidates for an ensemble of {size}; need at least one of each")
