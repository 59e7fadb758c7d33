"""fetch: locates or downloads the published files of a data set and verifies them."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.data.sources import fetch
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    out = workspace.raw(config.data.name)
    manifest = fetch(config.data, out, workspace.home)
    size = sum(file["bytes"] for file in manifest["files"])
    print(f"{out.relative_to(workspace.root)}: {len(manifest['files'])} files, {size:,} bytes")
