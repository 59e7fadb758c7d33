"""report, for detectors: AP, what one net gains over another, claims, and pictures of what was found."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.report.curves import write_curves_csv
from pipeline.report.detection import build_detection_report
from pipeline.report.detectors import DetectionInputs
from pipeline.stages.report import publish, results
from pipeline.tracking.location import Location, locate
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    location = locate(config.tracking.uri, config.paths.mlruns)
    inputs = gather(config, workspace, location)
    write_curves_csv(inputs.curves, workspace.result("curves").with_suffix(".csv"))
    page = build_detection_report(inputs, workspace.report)
    publish(config, page, inputs.evaluation["ensemble"]["key"], location)
    print(f"{page.relative_to(workspace.root)}: {len(inputs.detectors)} detectors, {len(inputs.scenes)} pictures")


def gather(config: Config, workspace: Workspace, location: Location) -> DetectionInputs:
    """The report's inputs, from files of the workspace and MLflow."""
    scenes = workspace.read_result("mistakes", "evaluate")["scenes"]
    return DetectionInputs(**results(config, workspace, location), scenes=scenes)
