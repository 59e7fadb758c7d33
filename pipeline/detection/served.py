"""Registered detectors as the server asks them; the model brings code of its own."""

from __future__ import annotations

from typing import Any

from pipeline.detection.pixels import MEGAPIXELS, scenes_of
from pipeline.ensemble.server import Served


def detector(model: Any) -> Served:
    """A `detection.model.DetectorModel`: a row for each object, with the index of its image in the request."""
    return Served(
        {"classes": model.classes, "channels": model.channels, "most_megapixels": MEGAPIXELS},
        lambda images, pixels: model.objects(scenes_of(images, model.channels, pixels)),
    )
