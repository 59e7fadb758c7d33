"""Which nets join an ensemble. NumPy alone; the same candidates give the same choice.

Candidates come best validation error first, and so do the members. An earlier candidate wins a tie. Where fewer
candidates are eligible than the ensemble may have members, all of them join.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.errors import Probabilities, require_countable
from pipeline.record import Net

T = TypeVar("T")


def first_of_each(ranked: Iterable[T], kind: Callable[[T], Hashable]) -> list[T]:
    """The first of each kind, in order."""
    firsts: dict[Hashable, T] = {}
    for each in ranked:
        firsts.setdefault(kind(each), each)
    return list(firsts.values())


def architecture(net: Net) -> tuple[int, bool, str]:
    """Depth, residual or plain, and the family of what is not the paper's: of a predecessor, of a detector and its net."""
    families = dict.fromkeys((net.model.family, net.model.net.family))
    return net.model.depth, net.model.residual, " ".join(key for key in families if key not in ("cifar", "imagenet"))


def length(net: Net) -> int:
    """Steps of the training; 0 where recipe.stop_patience may end it, since the recipe then decides when."""
    return 0 if net.recipe and net.recipe.stop_patience else net.steps


def all_but_seed(net: Net) -> Hashable:
    """Equal for nets that differ in nothing but their seed, and in when recipe.stop_patience ended them."""
    return net.name, net.model.anchor, net.model.context, net.lr, net.setting, net.snapshot, length(net)


def _seed(net: Net) -> Hashable:
    """Equal for runs that repeat a seed, with other validations for example; adopted nets have none."""
    return all_but_seed(net), net.key if net.seed is None else net.seed


def top_k(candidates: Sequence[Net], size: int) -> list[Net]:
    """The `size` best candidates."""
    return list(candidates[:size])


def best_per_depth(candidates: Sequence[Net], size: int) -> list[Net]:
    """The best candidate of each architecture, the `size` best of these. plain-20 and ResNet-20 are two architectures.

    Paper: Sec. 4.1, "We combine six models of different depth to form an ensemble".
    """
    return first_of_each(candidates, architecture)[:size]


def deepest_twice(candidates: Sequence[Net], size: int) -> list[Net]:
    """The two best runs of the deepest net, and the best run of each of `size` - 2 other depths of its kind.

    Of two equally deep nets the residual one counts as the deeper. Nets of the other kind take no part: the paper's
    ensemble has no plain nets.

    Paper: Sec. 4.1, "(only with two 152-layer ones at the time of submitting)".
    """
    deepest = max(map(architecture, candidates))
    pair = first_of_each((net for net in candidates if architecture(net) == deepest), _seed)[:2]
    others = [net for net in candidates if architecture(net)[0] != deepest[0] and architecture(net)[1:] == deepest[1:]]
    chosen = [*pair, *first_of_each(others, architecture)][:size]
    return [net for net in candidates if net in chosen]


def one_net(candidates: Sequence[Net], size: int) -> list[Net]:
    """The `size` best seeds of the best candidate."""
    best = all_but_seed(candidates[0])
    return first_of_each((net for net in candidates if all_but_seed(net) == best), _seed)[:size]


RULES = {rule.__name__: rule for rule in (top_k, best_per_depth, deepest_twice, one_net)}  # by ensemble.selection


def greedy(probabilities: Sequence[Probabilities], labels: NDArray[np.integer], size: int) -> list[tuple[int, float]]:
    """Forward selection with replacement (Caruana et al. 2004): `size` rounds, each adds the candidate that helps most.

    An average is judged by its top-1 error, then by its cross-entropy. A candidate that is added twice weighs twice.
    Rounds after the best average are dropped, so that a late addition cannot make the ensemble worse.

    Args:
        probabilities: (M,) arrays (N, K), at least one; they may be memory-mapped, one is read at a time.
        labels: (N,) true classes.
    Returns:
        (Candidate's index, weight), by index; the weights sum to 1.
    Raises:
        PipelineError: shapes that differ, or probabilities that are not finite.
    """
    for values in probabilities:
        require_countable(values, labels)
    total = _Sum(labels, probabilities[0].shape[1])
    picked: list[int] = []
    scores: list[tuple[float, float]] = []
    for _ in range(size):
        trials = [total.score_with(values) for values in probabilities]
        best = min(range(len(trials)), key=trials.__getitem__)
        picked.append(best)
        scores.append(trials[best])
        total.add(probabilities[best])
    kept = picked[: scores.index(min(scores)) + 1]
    return [(i, kept.count(i) / len(kept)) for i in sorted(set(kept))]


class _Sum:
    """The sum of the members' probabilities so far.

    The images lie along the last axis, where NumPy compares many at a time. One buffer serves all scores, because
    allocating memory for each would cost more than the arithmetic.
    """

    def __init__(self, labels: NDArray[np.integer], num_classes: int) -> None:
        self._sum = np.zeros((num_classes, len(labels)))
        self._trial = np.empty_like(self._sum)
        self._truth = labels * len(labels) + np.arange(len(labels))  # flat position of each image's true class
        self._members = 0

    def add(self, probabilities: Probabilities) -> None:
        self._sum += probabilities.T
        self._members += 1

    def score_with(self, probabilities: Probabilities) -> tuple[float, float]:
        """Top-1 error and cross-entropy of the average with one more member."""
        trial = np.add(self._sum, probabilities.T, out=self._trial)
        truth = trial.take(self._truth)
        trial.put(self._truth, -np.inf)
        return float((trial.max(axis=0) >= truth).mean()), cross_entropy(truth / (self._members + 1))


def cross_entropy(truth: NDArray[np.floating]) -> float:
    """Mean of -log of (N,) probabilities of the true classes, in nats; 0 counts as the smallest float32."""
    return float(-np.log(np.maximum(truth, np.finfo(np.float32).tiny)).mean())
