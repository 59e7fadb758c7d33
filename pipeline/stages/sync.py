"""sync: ships every journal that MLflow does not have in full."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Config
from pipeline.tracking.location import locate, require_answer
from pipeline.tracking.shipper import ship_all
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    location = locate(config.tracking.uri, config.paths.mlruns)
    require_answer(location, "journals are to be shipped")
    print(f"{ship_all(Path(config.paths.runs), location)} journals shipped to {location.uri}")
