"""Temperature scaling: how sure a net should be, given how often it was right on validation images. NumPy alone.

N images, K classes. Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COLDEST, HOTTEST = 0.05, 20.0
HALVINGS = 30  # of the range's logarithm: the last digit of a float32


def fitted_temperature(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature with the lowest cross-entropy on the labels, between COLDEST and HOTTEST.

    Args:
        probabilities: (N, K), rows sum to 1.
        labels: (N,) true classes.
    """
    logs = _logs(probabilities)
    of_truth = logs[np.arange(len(labels)), labels].mean()
    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    for _ in range(HALVINGS):  # cross-entropy is convex in 1 / temperature
        middle = (low + high) / 2
        expected = (_softmax(np.exp(middle) * logs) * logs).sum(1).mean()
        low, high = (low, middle) if expected > of_truth else (middle, high)
    return float(np.exp(-(low + high) / 2))


def tempered(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.floating]:
    """(N, K): what the net would say if its logits were divided by `temperature`; above 1, it is less sure.

    The classes' order, and so each net's own errors, stay as they are.
    """
    if temperature == 1.0:
        return probabilities
    return _softmax(_logs(probabilities) / temperature).astype(np.float32)


def _logs(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny), dtype=np.float64)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)
