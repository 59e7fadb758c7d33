"""serve, for detectors: answers requests with the objects in their images."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.detection.pixels import MEGAPIXELS, scenes_of
from pipeline.ensemble.server import Served
from pipeline.stages.serve import serve
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    serve(config, detector)


def detector(model: Any) -> Served:
    """A `detection.model.DetectorModel`: a row for each object, with the index of its image in the request."""
    return Served(
        {"classes": model.classes, "channels": model.channels, "most_megapixels": MEGAPIXELS},
        lambda images, pixels: model.objects(scenes_of(images, model.channels, pixels)),
    )
