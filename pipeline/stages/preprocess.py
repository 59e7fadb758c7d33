"""preprocess: one canonical store a data set: arrays or shards, splits, statistics."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.data.preprocess import preprocess
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    out = workspace.store(config.data.name)
    manifest = preprocess(config.data, workspace.raw(config.data.name), out)
    counts = manifest.counts
    print(
        f"{out.relative_to(workspace.root)}: {counts['train']:,} train and {counts['test']:,} test images, {len(manifest.classes)} classes"
    )
