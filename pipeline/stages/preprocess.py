"""preprocess: makes the data set's store of arrays or shards, splits and statistics."""

from __future__ import annotations

from pipeline.atomic import write_json
from pipeline.config import Config
from pipeline.data.facts import DECIDING, made_file, num_training
from pipeline.data.preprocess import preprocess
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    out = workspace.store(config.data.name)
    manifest = preprocess(config.data, workspace.raw(config.data.name), out)
    values = {key: getattr(config.data, key) for key in DECIDING}
    write_json(made_file(out), {"values": values, "content_hash": manifest.content_hash})
    training, validation, test = num_training(manifest, "holdout"), manifest.split["num_val"], manifest.counts["test"]
    counts = f"{training:,} training, {validation:,} validation and {test:,} test images"
    print(f"{out.relative_to(workspace.root)}: {counts}, {len(manifest.classes)} classes")
