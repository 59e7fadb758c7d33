"""preprocess: makes the data set's store of arrays or shards, splits and statistics."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.data.preprocess import preprocess
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    out = workspace.store(config.data.name)
    manifest = preprocess(config.data, workspace.raw(config.data.name), out)
    counts = f"{manifest.counts['train']:,} train and {manifest.counts['test']:,} test images"
    print(f"{out.relative_to(workspace.root)}: {counts}, {len(manifest.classes)} classes")
