"""serve, for detectors: answers requests with the objects in their images."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.detection.served import detector
from pipeline.stages.serve import serve
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    serve(config, detector)
