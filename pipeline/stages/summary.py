"""summary: the result in a few lines, and where to look further."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.report.nets import summary_table
from pipeline.tracking.location import locate, pages
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    evaluation = workspace.read_result("evaluate", "evaluate")
    swept = workspace.leaderboard.is_file()  # a single training is a result too
    print(summary_table(evaluation, workspace.read_result("leaderboard", "sweep") if swept else None))
    print(f"report  {workspace.report / 'index.html'}")
    location = locate(config.tracking.uri, config.paths.mlruns)
    command = pages(location, workspace.home)
    print(f"MLflow  {location.uri}{command and f'  ({command})'}")
