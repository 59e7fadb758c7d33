"""pretrain: trains what start.weights=sweep:NAME names, by fetch, preprocess and sweep of that data set."""

from __future__ import annotations

from typing import Any

from pipeline.anchor import anchor
from pipeline.atomic import write_json
from pipeline.config import Config, with_overrides
from pipeline.errors import PipelineError, running
from pipeline.pretraining import pretrainings
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    runs: list[dict[str, Any]] = []
    for theirs in pretrainings(config, workspace.root):
        with running([f"data={theirs.data.name}"]):  # what advice names
            runs += _pretrained(anchor(theirs, workspace.root), Workspace(workspace.root, theirs.data.name))
    write_json(workspace.result("pretrained"), {"runs": runs})
    if config.start_sweeps:
        print(f"{workspace.shown(workspace.result('pretrained'))}: {len(runs)} runs")
    else:
        print(f"start.weights={config.start.weights or repr('')} names no sweep, so there is nothing to train")


def _pretrained(config: Config, workspace: Workspace) -> list[dict[str, Any]]:
    """The finished trials of the configuration's sweep, the best first. Trials that were finished before stay."""
    from pipeline.stages import sweep  # a training from random weights needs none of it

    require_store(config, workspace)
    sweep.run(config, workspace)
    trials = workspace.read_result("leaderboard", "sweep")["trials"]
    return [_entry(trial, config) for trial in trials if trial["status"] == "finished"]


def require_store(config: Config, workspace: Workspace) -> None:
    """Makes the store by fetch and preprocess unless it is there: on ImageNet, preprocessing takes an hour."""
    from pipeline.data.facts import require_settings
    from pipeline.data.store import open_store
    from pipeline.stages import fetch, preprocess

    try:
        require_settings(open_store(workspace.store(config.data.name)), config.data)
    except PipelineError:  # no store, none that is whole, or one of other values
        fetch.run(config, workspace)
        preprocess.run(config, workspace)


def _entry(trial: dict[str, Any], config: Config) -> dict[str, Any]:
    theirs = with_overrides(config, trial["config"])
    net, seed = theirs.model.name, theirs.seed
    return {"data": config.data.name, "net": net, "seed": seed, "key": trial["key"], "val_err1": trial["val_err1"]}
