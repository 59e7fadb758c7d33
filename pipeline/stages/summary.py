"""summary: the result in a few lines, and where to look further."""

from __future__ import annotations

from pipeline.atomic import read_json
from pipeline.config import Config
from pipeline.report.nets import summary_table
from pipeline.stages.report import with_records
from pipeline.tracking.history import curves
from pipeline.tracking.store import locate
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    for path in (workspace.result("evaluate"), workspace.leaderboard):
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; `dvc repro` makes it")
    location = locate(config.tracking.uri, config.paths.mlruns)
    evaluation = read_json(workspace.result("evaluate"))
    nets = [*evaluation["members"], *filter(None, [evaluation["run"]]), *evaluation.get("others", [])]
    if not all(isinstance(net["model"], dict) for net in nets):
        recorded = curves(location, dict.fromkeys(net["run_id"] for net in nets))
        evaluation = with_records(evaluation, {run["run_id"]: run["net"] for run in recorded})
    print(summary_table(evaluation, read_json(workspace.leaderboard)))
    print(f"report  {workspace.report / 'index.html'}")
    print(f"MLflow  {location.uri}  (make ui)")
