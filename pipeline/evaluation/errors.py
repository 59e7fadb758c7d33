"""Errors of a classifier, from its probabilities.

N images, K classes. A tie counts as an error: classes that score exactly as high as the true one rank before it. A net
that gives every class the same probability is therefore wrong on every image, whatever the order of the classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError

Probabilities = NDArray[np.floating]  # (N, K); any scores do, only their order counts
Labels = NDArray[np.integer]  # (N,), values 0 <= label < K


def wrong(probabilities: Probabilities, labels: Labels, k: int = 1) -> NDArray[np.bool_]:
    """(N,) True where the true class is not among the k best; all False when k >= K.

    Raises:
        PipelineError: shapes that do not match, no image, a label outside 0..K-1, a value that is not finite, or k < 1.
    """
    require_countable(probabilities, labels)
    if k < 1:
        raise PipelineError(f"top-{k} error; k must be at least 1")
    truth = np.take_along_axis(probabilities, labels[:, None], axis=1)
    rank = (probabilities >= truth).sum(axis=1) - 1  # the true class counts itself
    return rank >= k


def top_k_error(probabilities: Probabilities, labels: Labels, k: int) -> float:
    """Fraction of images whose true class is not among the k best; errors as `wrong`."""
    return float(wrong(probabilities, labels, k).mean())


def predicted_classes(probabilities: Probabilities, labels: Labels) -> NDArray[np.int64]:
    """(N,) the predicted class, consistent with `wrong`: of tied best classes the first that is not the true one."""
    missed = wrong(probabilities, labels)
    rivals = np.array(probabilities, dtype=np.float64)
    rivals[np.arange(len(labels)), labels] = -np.inf
    return np.where(missed, rivals.argmax(axis=1), labels).astype(np.int64)


def per_class_errors(probabilities: Probabilities, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(K,) top-1 error and (K,) number of images of each class; the error of a class without images is NaN."""
    num_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    errors = np.bincount(labels[wrong(probabilities, labels)], minlength=num_classes)
    with np.errstate(invalid="ignore"):
        return errors / counts, counts


def confusion_matrix(probabilities: Probabilities, labels: Labels) -> NDArray[np.int64]:
    """(K, K) number of images by true class (row) and predicted class (column); its trace counts the right ones."""
    num_classes = probabilities.shape[1]
    cells = labels.astype(np.int64) * num_classes + predicted_classes(probabilities, labels)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def require_countable(probabilities: Probabilities, labels: Labels) -> None:
    """Raises PipelineError where errors cannot be counted, see `wrong`."""
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not labels.size:
        raise PipelineError(
            f"probabilities {probabilities.shape} and labels {labels.shape}; need (N, K) and (N,) with N at least 1"
        )
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise PipelineError(
            f"labels from {labels.min()} to {labels.max()}; with {probabilities.shape[1]} classes they must lie in 0..{probabilities.shape[1] - 1}"
        )
    # NaN compares false with everything, so a diverged net would look perfect.
    if not np.isfinite(probabilities).all():
        raise PipelineError(
            "the probabilities hold NaN or infinity: the net has diverged, and its errors cannot be counted"
        )
