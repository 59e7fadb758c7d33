"""results/unfinished: the folders of long trainings that have not ended, which any machine goes on with."""

from __future__ import annotations

import pytest
import yaml
from imports import ROOT

from pipeline.config import from_dict
from pipeline.run.key import run_key
from pipeline.tracking.journal import NAME, begin_of

FOLDERS = sorted((ROOT / "results" / "unfinished").glob("*/"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_this_version_goes_on_with_the_training(folder):
    begin = begin_of(folder / NAME)
    config = from_dict(yaml.safe_load((folder / "config.yaml").read_text()))
    key = run_key(config, begin["tags"]["pipeline.data"], begin["params"]["precision"])
    assert key == folder.name, "the code that decides the weights has changed: finish this training first, or remove it"
