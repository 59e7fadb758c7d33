"""Ranks as Ray actors."""

from __future__ import annotations

import os

import pytest
from test_tuner import run, tracked

from pipeline.atomic import read_json


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 3, reason="two ranks and the trial that waits for them need three CPUs")
def test_a_trial_of_two_ranks_is_trained_by_ray_and_tracked_once(workspace):
    root = workspace()
    run(root, "trainer.devices=2", "sweep.space={model.depth:[8],recipe.lr:[0.1]}", "sweep.reduction_factor=0")
    (trial,) = read_json(root / "sweep" / "leaderboard.json")["trials"]
    assert trial["status"] == "finished" and trial["steps"] == 34
    assert sorted(run.data.tags["pipeline.kind"] for run in tracked(root)) == ["sweep", "train"]
