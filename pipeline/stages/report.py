"""report: figures, tables and claims from the earlier stages' results and MLflow's curves."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.data.store import open_store
from pipeline.errors import PipelineError, first_line, hint
from pipeline.report.curve import Curve
from pipeline.report.curves import write_curves_csv
from pipeline.report.experiment import command
from pipeline.report.inputs import ReportInputs, data_of, evaluated
from pipeline.report.page import build_report
from pipeline.tracking.location import UI, Location, locate, pages, require_answer
from pipeline.tracking.registry import curves
from pipeline.tracking.results import keep_files
from pipeline.tracking.sync import sync
from pipeline.workspace import Workspace

log = logging.getLogger(__name__)

RECORDED = {"git_commit": "pipeline.commit", "dvc_lock": "pipeline.dvc_lock", "host": "pipeline.hardware"}
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "ray", "mlflow", "dvc", "hydra-core")


def run(config: Config, workspace: Workspace) -> None:
    location = locate(config.tracking.uri, config.paths.mlruns)
    inputs = gather(config, workspace, location)
    write_curves_csv(inputs.curves, workspace.result("curves").with_suffix(".csv"))
    page = build_report(inputs, workspace.report)
    publish(config, page, inputs.evaluation["ensemble"].get("key", ""), location)
    print(f"{page.relative_to(workspace.root)}: {len(inputs.members)} members, {len(inputs.curves)} learning curves")


def publish(config: Config, page: Path, key: str, location: Location) -> None:
    """The page, which holds its figures, to the ensemble's run in MLflow."""
    runs = Path(config.paths.runs)
    keep_files(runs, key, {page: "report"})
    try:
        sync(runs, location)
    except Exception as error:  # MLflow raises many kinds; the journal keeps the page
        log.warning("MLflow lacks the report (%s); %s ships it", first_line(error), hint("sync"))


def gather(config: Config, workspace: Workspace, location: Location) -> ReportInputs:
    """The report's inputs, from files of the workspace and MLflow."""
    parts = results(config, workspace, location)
    responses, mistakes = (workspace.read_result(name, "evaluate") for name in ("responses", "mistakes"))
    return ReportInputs(**parts, responses=responses, mistakes=mistakes)


def results(config: Config, workspace: Workspace, location: Location) -> dict[str, Any]:
    """What the report of any kind of net says, by field of `Results`."""
    require_answer(location, "the learning curves come from MLflow")
    store = open_store(workspace.store(config.data.name))
    evaluation = workspace.read_result("evaluate", "evaluate")
    _require_same_data(evaluation, store.manifest.content_hash, workspace)
    leaderboard = workspace.read_result("leaderboard", "sweep") if workspace.leaderboard.is_file() else None
    if leaderboard and leaderboard.get("data", store.manifest.content_hash) != store.manifest.content_hash:
        raise PipelineError(
            f"{workspace.shown(workspace.leaderboard)} is of a sweep on other data than the store of "
            f"data={config.data.name} holds; run {hint('sweep')}, or delete the file"
        )
    trials = leaderboard["trials"] if leaderboard else []
    nets = (*evaluation["members"], *filter(None, [evaluation["run"]]), *evaluation.get("others", []), *trials)
    keys = {net["run_id"]: net["key"] for net in nets if net["run_id"]}
    recorded = {run["run_id"]: run for run in curves(location, store.manifest.name, keys)}
    return {
        "data": data_of(asdict(store.manifest)),
        "evaluation": evaluation,
        "leaderboard": leaderboard,
        "curves": [Curve(net=run["net"], points=run["points"]) for run in recorded.values()],
        "provenance": {
            **_of_the_runs([recorded.get(net.run_id, {}) for net in evaluated(evaluation)]),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "commands": {
                "the whole experiment": command(config.to_dict(), workspace.root),
                "this report": "pipeline report",
                # A command for another store would name a folder of this machine, also in published results.
                **({"runs": UI} if pages(location, workspace.home) == UI else {}),
            },
            "tracking_uri": location.uri,
        },
    }


def _require_same_data(evaluation: Mapping[str, Any], content_hash: str, workspace: Workspace) -> None:
    data = evaluation["data"]
    if data["content_hash"] != content_hash:
        raise PipelineError(
            f"{workspace.shown(workspace.result('evaluate'))} is of data {data['name']} {data['content_hash'][:12]}, the store "
            f"holds {content_hash[:12]}; run {hint('evaluate')} first"
        )


def _of_the_runs(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Commit, dvc.lock, hardware, attempts and date as the runs recorded them, not as of the report."""
    facts: dict[str, Any] = {}
    for key, tag in RECORDED.items():
        values = sorted({run.get("tags", {}).get(tag, "unknown") for run in runs})
        if values != ["unknown"]:
            facts[key] = values
    if interrupted := {run["net"].key: run["attempts"] for run in runs if run and len(run["attempts"]) > 1}:
        facts["attempts"] = interrupted
    if dates := [run["ended"] for run in runs if run]:
        facts["date"] = max(dates)
    return facts
