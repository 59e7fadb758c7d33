"""results/unfinished: the folders of long trainings that have not ended, which another machine goes on with (docs/results.md)."""

from __future__ import annotations

import yaml
from imports import ROOT

from pipeline.config import from_dict
from pipeline.run.key import run_key
from pipeline.tracking.journal import NAME, begin_of


def test_this_version_goes_on_with_the_trainings():
    for folder in (ROOT / "results" / "unfinished").glob("*/"):  # none, once they have ended
        begin = begin_of(folder / NAME)
        config = from_dict(yaml.safe_load((folder / "config.yaml").read_text()))
        key = run_key(config, begin["tags"]["pipeline.data"], begin["params"]["precision"])
        assert key == folder.name, "the code that decides the weights has changed: finish this one first, or remove it"
