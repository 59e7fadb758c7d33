"""publish: this experiment's result into results/ and the README's table."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.report.experiment import experiment_name
from pipeline.report.published import publish
from pipeline.stages.report import gather
from pipeline.tracking.location import locate
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    inputs = gather(config, workspace, locate(config.tracking.uri, config.paths.mlruns))
    name = experiment_name(config.to_dict(), workspace.root)
    path = publish(inputs, name, workspace.root / "results", workspace.root / "README.md")
    print(f"{path.relative_to(workspace.root)} and README.md")
