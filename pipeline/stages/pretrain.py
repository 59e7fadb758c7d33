"""pretrain: trains what start.weights=sweep:NAME names, by fetch, preprocess and sweep of that data set."""

from __future__ import annotations

from typing import Any

from pipeline.anchor import anchor
from pipeline.atomic import read_if_whole, write_json
from pipeline.config import Config, DataConfig, with_overrides
from pipeline.errors import PipelineError, running
from pipeline.pretraining import pretrainings
from pipeline.workspace import Workspace

# Keys of data.* that decide the bytes of a store, as tests/stages/test_pretrain.py makes sure.
DECIDING = (
    *("source", "path", "mirror", "layout", "labels", "format", "image_size"),
    *("num_test", "num_val", "split_seed", "skip_corrupt"),
)


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
    """Makes the store by fetch and preprocess unless it is there: on ImageNet, preprocessing takes an hour.

    Beside it, <name>.made.json keeps the values that it was made from.
    """
    from pipeline.data.store import open_store
    from pipeline.stages import fetch, preprocess

    data = config.data
    store = workspace.store(data.name)
    made, values = store.with_name(f"{data.name}.made.json"), {key: getattr(data, key) for key in DECIDING}
    if not _is_stored(data, values, workspace, read_if_whole(made)):
        fetch.run(config, workspace)
        preprocess.run(config, workspace)
    write_json(made, {"values": values, "content_hash": open_store(store).manifest.content_hash})


def _is_stored(data: DataConfig, values: dict[str, Any], workspace: Workspace, made: dict[str, Any]) -> bool:
    """Whether a whole store of these values is there. One that the user made counts if nothing on disk disagrees.

    Args:
        made: from which values the store with this content was made.
    """
    from pipeline.data.facts import require_settings
    from pipeline.data.sources import MANIFEST
    from pipeline.data.store import open_store

    try:
        there = open_store(workspace.store(data.name)).manifest
        require_settings(there, data)
    except PipelineError:  # no store, none that is whole, or one of other values
        return False
    if made.get("content_hash") == there.content_hash:
        before = made["values"]
        if not (values["mirror"] and before["mirror"]):  # "" names no other place
            values = {**values, "mirror": before["mirror"]}
        return values == before
    fetched = read_if_whole(workspace.raw(data.name) / MANIFEST)
    same = all(fetched.get(key, values[key]) == values[key] for key in ("source", "path"))
    return same and (data.skip_corrupt or not there.skipped)


def _entry(trial: dict[str, Any], config: Config) -> dict[str, Any]:
    theirs = with_overrides(config, trial["config"])
    net, seed = theirs.model.name, theirs.seed
    return {"data": config.data.name, "net": net, "seed": seed, "key": trial["key"], "val_err1": trial["val_err1"]}
