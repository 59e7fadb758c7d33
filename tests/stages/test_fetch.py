"""fetch: where the configuration's paths start."""

from __future__ import annotations

from pathlib import Path

import pytest
from imports import ROOT
from runs import composed

from pipeline.atomic import read_json
from pipeline.stages.fetch import run
from pipeline.workspace import Workspace


@pytest.mark.parametrize("given", [["data.path=sets/s.tgz"], ["data.path=s.tgz", "data.mirror=sets"]])
def test_relative_paths_start_at_the_repository_in_dvcs_copy_of_it_too(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "s.tgz").write_bytes(b"x")
    config = composed(ROOT, "data=folder", "data.name=s", *given)
    for root in (tmp_path, tmp_path / ".dvc/tmp/exps/standalone/tmpabc"):
        workspace = Workspace(root, "s")
        run(config, workspace)
        (entry,) = read_json(workspace.raw("s") / "manifest.json")["files"]
        assert entry["path"] == str(tmp_path / "sets" / "s.tgz")
