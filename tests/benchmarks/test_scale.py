"""The sweep of simulated trials goes through what real trials go through."""

from __future__ import annotations

from inspect import signature

from benchmarks.scale import simulated
from pipeline.tuning.trial import run_trial


def test_a_simulated_trial_takes_what_a_real_one_takes() -> None:
    assert signature(simulated).parameters.keys() == signature(run_trial).parameters.keys() | {"seconds", "every"}
