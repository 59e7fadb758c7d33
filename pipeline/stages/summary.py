"""summary: the result in a few lines, and where to look further."""

from __future__ import annotations

from pipeline.atomic import read_json
from pipeline.config import Config
from pipeline.errors import MissingError
from pipeline.report.nets import summary_table
from pipeline.tracking.location import locate
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    for path in (workspace.result("evaluate"), workspace.leaderboard):
        if not path.exists():
            raise MissingError(f"{path} is missing; `dvc repro` or `pipeline {path.stem}` makes it")
    print(summary_table(read_json(workspace.result("evaluate")), read_json(workspace.leaderboard)))
    print(f"report  {workspace.report / 'index.html'}")
    print(f"MLflow  {locate(config.tracking.uri, config.paths.mlruns).uri}  (make ui)")
