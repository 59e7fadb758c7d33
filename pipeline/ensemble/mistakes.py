"""The test images that the ensemble gets wrong while it is surest, small enough to be shown on a page."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import ArrayRecords, ShardRecords
from pipeline.ensemble.predictions import Images
from pipeline.evaluation.errors import predicted_classes, wrong

MOST = 12  # images
SIDE = 96  # pixels, the longest side that is kept


def confident_mistakes(average: NDArray[np.float32], images: Images) -> list[dict[str, Any]]:
    """The mistakes with the most probable wrong classes, surest first.

    Args:
        average: (N, K) the ensemble's probabilities.
        images: the N test images.
    Returns:
        For each: index (of the image in the store), actual and predicted class, confidence (probability of the predicted
        class), png (base64, at most SIDE pixels wide and high).
    """
    labels, classes = images.labels, images.store.manifest.classes
    missed = np.flatnonzero(wrong(average, labels))
    predicted = predicted_classes(average, labels)[missed]
    confidence = average[missed, predicted]
    surest = np.argsort(-confidence, kind="stable")[:MOST]
    return [
        {
            "index": int(images.indices[missed[at]]),
            "actual": classes[labels[missed[at]]],
            "predicted": classes[predicted[at]],
            "confidence": float(confidence[at]),
            "png": base64.b64encode(picture(images.records, int(images.indices[missed[at]]))).decode(),
        }
        for at in surest
    ]


def picture(records: ArrayRecords | ShardRecords, index: int, side: int = SIDE) -> bytes:
    """An image of a store as a PNG, at most `side` pixels wide and high."""
    from PIL import Image

    if isinstance(records, ArrayRecords):
        pixels = np.asarray(records.images[index])
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    else:
        image = Image.open(io.BytesIO(records.jpeg(index)))
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
