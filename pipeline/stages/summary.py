"""summary: the result in a few lines, and where to look further."""

from __future__ import annotations

from rich.console import Console

from pipeline.config import Config
from pipeline.report.summary import summary_table
from pipeline.stages.report import gather
from pipeline.tracking.store import locate
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    if not workspace.metrics("evaluate").exists():
        raise FileNotFoundError(f"{workspace.metrics('evaluate')} is missing; `dvc repro` makes it")
    location = locate(config.tracking.uri, config.paths.mlruns)
    Console().print(summary_table(gather(config, workspace, location)))
    print(f"report  {workspace.report / 'index.html'}")
    print(f"MLflow  {location.uri}  (make ui)")
