"""report: figures, tables and claims from what the earlier stages published and MLflow recorded."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from pipeline.atomic import read_json
from pipeline.config import Config
from pipeline.data.store import open_store
from pipeline.learn.models import net_name
from pipeline.report.curves import write_curves_csv
from pipeline.report.experiment import command
from pipeline.report.inputs import Curve, Net, ReportInputs, data_of, evaluated
from pipeline.report.page import build_report
from pipeline.tracking.history import TIMES, curves
from pipeline.tracking.registry import require_answer
from pipeline.tracking.setting import setting
from pipeline.tracking.store import STATUS_TAG, Location, locate
from pipeline.workspace import Workspace

RECORDED = {"git_commit": "pipeline.commit", "dvc_lock": "pipeline.dvc_lock", "host": "pipeline.hardware"}
# What comparisons look at by itself; a net that started from weights, whose place is nobody else's matter, is in none.
APART = ("recipe.max_steps", "recipe.warmup_lr", "recipe.warmup_until_err")
START = "start."
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "ray", "mlflow", "dvc", "hydra-core")


def run(config: Config, workspace: Workspace) -> None:
    location = locate(config.tracking.uri, config.paths.mlruns)
    require_answer(location, "learning curves are what MLflow recorded")
    inputs = gather(config, workspace, location)
    write_curves_csv(inputs.curves, workspace.result("curves").with_suffix(".csv"))
    page = build_report(inputs, workspace.report)
    print(f"{page.relative_to(workspace.root)}: {len(inputs.members)} members, {len(inputs.curves)} learning curves")


def gather(config: Config, workspace: Workspace, location: Location) -> ReportInputs:
    """What the report is made of, from files of the workspace and MLflow."""
    store = open_store(workspace.store(config.data.name))
    evaluation = read_json(workspace.result("evaluate"))
    leaderboard = read_json(workspace.leaderboard) if workspace.leaderboard.is_file() else None
    of = evaluation["data"]
    if of["content_hash"] != store.manifest.content_hash:
        raise ValueError(
            f"{workspace.shown(workspace.result('evaluate'))} is of data {of['name']} {of['content_hash'][:12]}, the store of data={config.data.name} "
            f"holds {store.manifest.content_hash[:12]}; evaluate this one first, or choose the other (override: data={of['name']})"
        )
    trials = leaderboard["trials"] if leaderboard else []
    run_ids = [run["run_id"] for run in (*evaluated(evaluation), *filter(None, [evaluation["run"]]), *trials)]
    recorded = {found["run_id"]: found for found in curves(location, dict.fromkeys(filter(None, run_ids)))}
    trained = read_json(workspace.result("train")) if evaluation["run"] else {"key": ""}
    named, size = [evaluation["run"]] if evaluation["run"] else [], len(evaluation["members"])
    nets = [_timed(net, recorded, trained) for net in (*evaluation["members"], *named, *evaluation.get("others", []))]
    others = size + len(named)
    return ReportInputs(
        data=data_of(asdict(store.manifest)),
        evaluation={
            **evaluation,
            "members": nets[:size],
            "run": nets[size] if named else None,
            "others": nets[others:],
        },
        leaderboard=leaderboard,
        responses=read_json(workspace.result("responses")),
        curves=[_curve(found) for found in recorded.values()],
        provenance={
            **_of_the_runs([recorded.get(net["run_id"], {}) for net in nets]),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "commands": {
                "the whole experiment": command(config.to_dict(), workspace.root),
                "this report": "pipeline report",
                "runs": "make ui",
            },
            "tracking_uri": location.uri,
        },
    )


def _timed(net: Net, recorded: dict[str, dict[str, Any]], trained: dict[str, Any]) -> Net:
    """`net` with its seconds and images per second: of train.json if it is that run, else as MLflow has them."""
    named = net.get("key") == trained["key"]
    times, timed = trained if named else recorded.get(net["run_id"], {}).get("times", {}), net.copy()
    if set(TIMES) <= set(times):
        timed["seconds"], timed["images_per_s"] = times["seconds"], times["images_per_s"]
    return timed


def _of_the_runs(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Commit, dvc.lock, hardware and date that the runs themselves recorded, not those of the report's moment."""
    found: dict[str, Any] = {}
    for key, tag in RECORDED.items():
        values = sorted({run.get("tags", {}).get(tag, "unknown") for run in runs})
        if values != ["unknown"]:
            found[key] = values
    if dates := [run["ended"] for run in runs if run]:
        found["date"] = max(dates)
    return found


def _value(text: str) -> bool | float | str | list[float]:
    """A parameter as it was before MLflow made it a text."""
    if text.startswith("["):
        return json.loads(text)
    if text in ("True", "False"):
        return text == "True"
    try:
        return float(text)
    except ValueError:
        return text


def _curve(found: dict[str, Any]) -> Curve:
    params = found["params"]
    depth, residual = int(params["model.depth"]), params["model.residual"] == "True"
    model = net_name(params["model.family"], depth, residual, params["model.shortcut"], params["model.stride_on"])
    curve = Curve(
        run_id=found["run_id"],
        name=found["name"],
        model=model,
        depth=depth,
        residual=residual,
        points=found["points"],
        warmup=float(params.get("recipe.warmup_lr", 0)) > 0,
        recipe={
            key.removeprefix("recipe."): _value(value)
            for key, value in setting(params).items()
            if key not in APART and not key.startswith(START)
        },
        complete=found["tags"].get(STATUS_TAG) == "finished",
        plainly=not params.get("start.weights") and params.get("data.num_train", "0") == "0",
    )
    if "seed" in params:
        curve["seed"] = int(params["seed"])
    if "recipe.lr" in params:  # a net made elsewhere has none
        curve["lr"] = float(params["recipe.lr"])
    return curve
