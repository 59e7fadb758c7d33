"""Population based training: which members copy which, and with what learning rates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runs import composed

from pipeline.config import Config
from pipeline.tuning.population import FACTORS, PARENT, generations, history, latest, proposed, quantiles, size, stuck
from pipeline.tuning.state import Trial

PBT = (
    *("sweep.searcher=pbt", "sweep.space={recipe.lr:{loguniform:[0.01,1]}}", "sweep.population=4"),
    *("sweep.interval_steps=10", "recipe.max_steps=30", "recipe.schedule=multistep", "recipe.warmup_fraction=0"),
)


def config_of(workspace: Any, *overrides: str) -> Config:
    return composed(workspace(), *PBT, *overrides)


def ended(config: Config, point: dict[str, Any], number: int) -> Trial:
    """Whoever has the rate closest to 0.1 is best; keys are numbers."""
    error = min(abs(point["recipe.lr"] - 0.1), 0.9)
    return Trial(point, key=f"{number:012x}", status="finished", val_err1=error)


def grown(config: Config, trials: list[Trial]) -> list[Trial]:
    """The population of which `trials` is the beginning, to its end."""
    trials = list(trials)
    while len(trials) < size(config):
        point = proposed(config, trials)
        assert point is not None
        trials.append(ended(config, point, len(trials)))
    return trials


def test_the_worst_copy_the_best_and_change_its_rate_and_others_go_on(workspace):
    config = config_of(workspace)
    trials = grown(config, [])
    assert generations(config) == 3 and size(config) == len(trials) == 12
    first = trials[:4]
    assert [trial.point["seed"] for trial in first] == [0, 1, 2, 3]
    assert len({trial.point["recipe.lr"] for trial in first}) == 4
    assert all(PARENT not in trial.point and trial.point["recipe.max_steps"] == 10 for trial in first)
    for at in (4, 8):
        before, after = trials[at - 4 : at], trials[at : at + 4]
        (best,), (worst,) = quantiles(before, 0.25)
        assert best == min(range(4), key=lambda at: before[at].val_err1)
        for member, trial in enumerate(after):
            parent = best if member == worst else member
            assert trial.point[PARENT] == before[parent].key and trial.point["seed"] == member
            factor = trial.point["recipe.lr"] / before[parent].point["recipe.lr"]
            assert factor == 1.0 if member != worst else min(abs(factor - f) for f in FACTORS) < 1e-9
            assert trial.point["recipe.max_steps"] == at // 4 * 10 + 10


def test_a_population_goes_on_as_one_that_was_not_interrupted_and_waits_for_its_generation(workspace):
    config = config_of(workspace)
    whole = grown(config, [])
    for at in (2, 5, 8):
        assert grown(config, whole[:at]) == whole
    trains = replace(whole[1], status="unfinished")
    assert proposed(config, [whole[0], trains, *whole[2:4]]) is None
    assert proposed(config, [whole[0], trains]) == whole[2].point  # of its own generation
    longer = composed(workspace(), *PBT, "recipe.max_steps=50")
    assert grown(longer, [])[:12] == whole
    assert grown(config_of(workspace, "seed=7"), []) != whole


def test_who_diverged_copies_and_is_never_copied(workspace):
    config = config_of(workspace, "sweep.quantile=0.5")
    first = grown(config, [])[:4]
    bad = [replace(trial, status="diverged", key="", val_err1=1.0) for trial in first]
    best, worst = quantiles([bad[0], bad[1], first[2], bad[3]], 0.5)
    assert best == [2] and sorted(worst) == [0, 1, 3]
    point = proposed(config, [bad[0], bad[1], first[2], bad[3]])
    assert point is not None and point[PARENT] == first[2].key
    assert proposed(config, bad) is None
    nothing = [
        replace(trial, val_err1=1.0) for trial in first
    ]  # detectors that find nothing yet err like one that diverged
    assert quantiles([bad[0], *nothing[1:]], 0.25)[0] == [1]
    assert "all 4 members of the population diverged before step 10" in stuck(config, bad)
    assert not stuck(config, first) and not stuck(config, first[:2]) and not stuck(config, grown(config, []))


def test_its_history_leads_from_the_best_member_to_its_first_ancestor(workspace):
    config = config_of(workspace)
    trials = grown(config, [])
    last = latest(config, trials)
    assert last == trials[8:]
    best = min(last, key=lambda trial: trial.val_err1)
    told = history(config, trials, [best.key])
    line = [next(segment for segment in told["segments"] if segment["key"] == key) for key in told["best"]]
    assert [(s["from_step"], s["to_step"]) for s in line] == [(0, 10), (10, 20), (20, 30)]
    assert line[-1]["key"] == best.key and [s["parent"] for s in line] == ["", line[0]["key"], line[1]["key"]]
    cut_short = [*trials[:8], replace(trials[8], status="unfinished", val_err1=None)]
    assert latest(config, cut_short) == [trials[4], *trials[5:8]]
