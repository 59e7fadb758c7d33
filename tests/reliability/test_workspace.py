"""The experiment that faults are tried on."""

from __future__ import annotations

import yaml
from imports import ROOT

from reliability.kills import PER_ROUND
from reliability.workspace import DONE, MADE, STAGES


def test_each_stage_of_dvc_is_disturbed() -> None:
    stages = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    assert list(STAGES) == list(MADE) == list(DONE) == list(PER_ROUND) == stages
