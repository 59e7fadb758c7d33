"""The average of several nets' probabilities, and how confident each should be in it. NumPy alone.

M nets, N images, K classes. Temperature scaling: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv
1706.04599.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.floating]  # (N, K), rows sum to 1

COLDEST, HOTTEST = 0.05, 20.0
HALVINGS = 30  # of the range's logarithm: the last digit of a float32


def fitted_temperature(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature with the lowest cross-entropy on the labels, between COLDEST and HOTTEST.

    Args:
        probabilities: (N, K), rows sum to 1.
        labels: (N,) true classes.
    """
    logs = _logs(probabilities)
    true_logs = logs[np.arange(len(labels)), labels].mean()
    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    for _ in range(HALVINGS):  # cross-entropy is convex in 1 / temperature
        middle = (low + high) / 2
        expected = (_softmax(np.exp(middle) * logs) * logs).sum(1).mean()
        low, high = (low, middle) if expected > true_logs else (middle, high)
    return float(np.exp(-(low + high) / 2))


def tempered(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.floating]:
    """(N, K) probabilities after dividing the logits by `temperature`; above 1 they are less confident.

    The order of the classes, and so each net's own errors, stay as they are.
    """
    if temperature == 1.0:
        return probabilities
    return _softmax(_logs(probabilities) / temperature).astype(np.float32)


def _logs(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny), dtype=np.float64)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def average(probabilities: Sequence[Probabilities], weights: Sequence[float]) -> NDArray[np.float32]:
    """(N, K) weighted mean of members' probabilities, taken after the softmax and summed in float64.

    Args:
        weights: (M,) not negative; normalised here.
    Raises:
        ValueError: no member, a negative weight, all weights 0, or not as many weights as members.
    """
    if len(probabilities) != len(weights) or min(weights, default=-1.0) < 0 or not sum(weights):
        raise ValueError(
            f"{len(probabilities)} members with weights {list(weights)}; need one weight a member, none negative, not all 0"
        )
    ((total, whole),) = deque(_sums(probabilities, weights), maxlen=1)
    return (total / whole).astype(np.float32)


def running_averages(probabilities: Iterable[Probabilities], weights: Iterable[float]) -> Iterator[NDArray[np.float32]]:
    """(N, K) weighted mean of the first member, whose weight is not 0, of the first two, and so on; summed in float64."""
    for total, whole in _sums(probabilities, weights):
        yield (total / whole).astype(np.float32)


def _sums(
    probabilities: Iterable[Probabilities], weights: Iterable[float]
) -> Iterator[tuple[NDArray[np.float64], float]]:
    """Weighted sum and sum of the weights after each member; the same array each time."""
    total, whole = None, 0.0
    for p, weight in zip(probabilities, weights, strict=True):
        part = p * np.float64(weight)
        total = part if total is None else np.add(total, part, out=total)
        whole += weight
        yield total, whole
