"""summary: the result in a few lines, and where to look further."""

from __future__ import annotations

from pipeline.atomic import read_json
from pipeline.config import Config
from pipeline.errors import MissingError, hint
from pipeline.report.nets import summary_table
from pipeline.tracking.location import locate
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    for path, verb in ((workspace.result("evaluate"), "evaluate"), (workspace.leaderboard, "sweep")):
        if not path.exists():
            raise MissingError(f"{path} is missing; {hint(verb)} makes it")
    print(summary_table(read_json(workspace.result("evaluate")), read_json(workspace.leaderboard)))
    print(f"report  {workspace.report / 'index.html'}")
    print(f"MLflow  {locate(config.tracking.uri, config.paths.mlruns).uri}  (make ui)")
