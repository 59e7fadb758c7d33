"""report: figures, tables and claims from what the earlier stages published and MLflow recorded."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import yaml

from pipeline.atomic import read_json
from pipeline.compose import AUTO, leaves
from pipeline.config import Config
from pipeline.data.store import open_store
from pipeline.models import net_name
from pipeline.report.curves import write_curves_csv
from pipeline.report.inputs import Curve, ReportInputs, data_of
from pipeline.report.page import build_report
from pipeline.tracking.history import curves
from pipeline.tracking.lineage import lineage
from pipeline.tracking.registry import require_answer
from pipeline.tracking.store import Location, locate
from pipeline.workspace import Workspace

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "ray", "mlflow", "dvc", "hydra-core")


def run(config: Config, workspace: Workspace) -> None:
    location = locate(config.tracking.uri, config.paths.mlruns)
    require_answer(location, "learning curves are what MLflow recorded")
    inputs = gather(config, workspace, location)
    write_curves_csv(inputs.curves, workspace.metrics("curves").with_suffix(".csv"))
    page = build_report(inputs, workspace.report)
    print(f"{page.relative_to(workspace.root)}: {len(inputs.members)} members, {len(inputs.curves)} learning curves")


def gather(config: Config, workspace: Workspace, location: Location) -> ReportInputs:
    """What the report is made of, from files of the workspace and MLflow."""
    store = open_store(workspace.store(config.data.name))
    evaluation, leaderboard = read_json(workspace.metrics("evaluate")), read_json(workspace.leaderboard)
    nets = [*evaluation["members"], evaluation["run"]]
    run_ids = [net["run_id"] for net in nets] + [trial["run_id"] for trial in leaderboard["trials"]]
    recorded = curves(location, dict.fromkeys(filter(None, run_ids)))
    return ReportInputs(
        data=data_of(asdict(store.manifest)),
        evaluation=evaluation,
        leaderboard=leaderboard,
        curves=[_curve(found) for found in recorded],
        provenance=_provenance(workspace, location, max(found["ended"] for found in recorded)),
    )


def _curve(found: dict[str, Any]) -> Curve:
    params = found["params"]
    depth, residual = int(params["model.depth"]), params["model.residual"] == "True"
    model = net_name(params["model.family"], depth, residual, params["model.shortcut"], params["model.stride_on"])
    return Curve(
        run_id=found["run_id"], name=found["name"], model=model, depth=depth, residual=residual, points=found["points"]
    )


def _provenance(workspace: Workspace, location: Location, date: str) -> dict[str, Any]:
    tags = lineage(workspace.root)
    params = yaml.safe_load((workspace.root / "params.yaml").read_text())
    chosen = [f"-S {key}={value}" for key, value in params.items() if key != "set" and value != AUTO]
    chosen += [f"-S ++set.{key}={value}" for key, value in leaves(params.get("set") or {})]
    return {
        "git_commit": tags.get("pipeline.commit"),
        "dvc_lock": tags.get("pipeline.dvc_lock"),
        "host": tags["pipeline.hardware"],
        "date": date,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "commands": {
            "the whole experiment": " ".join(["dvc exp run", *chosen]),
            "this report": "pipeline report",
            "runs": "make ui",
        },
        "tracking_uri": location.uri,
    }
