"""publish, for detectors: this experiment's result into results/ and the README's tables."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.stages.detection.report import gather
from pipeline.stages.publish import keep
from pipeline.tracking.location import locate
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    keep(gather(config, workspace, locate(config.tracking.uri, config.paths.mlruns)), config, workspace)


def weights(config: Config, workspace: Workspace, name: str) -> None:
    """Refuses, since results/weights holds small files of nets that classify."""
    raise PipelineError(
        f"`pipeline publish weights` with model={config.model.family}; results/weights holds nets that classify. Leave out "
        "`weights` to publish the result, and name a detector's weights by their run: predict.weights=run:KEY"
    )
