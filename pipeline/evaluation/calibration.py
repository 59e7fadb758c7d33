"""How far a classifier's confidence can be believed: the data of a reliability diagram.

N images, K classes. The confidence is the probability of the most probable class. Guo et al. 2017, "On Calibration of
Modern Neural Networks", arXiv 1706.04599.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.evaluation.errors import Labels, Probabilities, wrong
from pipeline.evaluation.intervals import wilson

BINS = 10  # of equal width between 0 and 1


def calibration(probabilities: Probabilities, labels: Labels) -> dict[str, Any]:
    """confidence: the mean over the images. expected_error: the mean distance of a bin's confidence from its accuracy.

    bins: for each bin with images their number, mean confidence, accuracy and its Wilson interval ci95; all fractions.

    Raises:
        PipelineError: as `wrong`.
    """
    right = ~wrong(probabilities, labels)
    confidence = probabilities.max(axis=1).astype(np.float64)
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins: list[dict[str, Any]] = []
    for place in range(BINS):
        inside = places == place
        if count := int(inside.sum()):
            hits = int(right[inside].sum())
            ci95 = [1 - end for end in reversed(wilson(count - hits, count))]
            facts = {"count": count, "confidence": float(confidence[inside].mean())}
            bins.append({**facts, "accuracy": hits / count, "ci95": ci95})
    distances = [one["count"] * abs(one["confidence"] - one["accuracy"]) for one in bins]
    return {"confidence": float(confidence.mean()), "expected_error": sum(distances) / len(labels), "bins": bins}
