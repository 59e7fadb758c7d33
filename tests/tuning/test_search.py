"""sweep.search: what it chooses, and the sweep that then trains with it."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from runs import Workspaces, composed
from test_tuner import IN_TURN, PATIENCE_S, TO_THE_END, begun, kill_when, run, start, tracked, wait

from pipeline.atomic import read_json
from pipeline.cli import INTERRUPTED
from pipeline.config import SearchConfig
from pipeline.ensemble.members import Source
from pipeline.tuning.search import choices, main_sweep, outcome, search_sweep, sentence
from pipeline.tuning.space import example_points
from pipeline.tuning.trial import trial_config
from pipeline.tuning.tuner import tune_sweep

RATES = SearchConfig(space={"model.depth": [8, 14], "recipe.lr": [0.1, 0.2, 0.4]}, take=["recipe.lr"])


def trial(depth: int, lr: float, error: float, status: str = "finished") -> dict[str, Any]:
    return {"config": {"model.depth": depth, "recipe.lr": lr}, "val_err1": error, "status": status}


def test_the_value_with_the_lowest_mean_error_is_chosen_and_a_diverged_trial_counts_as_all_wrong() -> None:
    ranked = [trial(14, 0.4, 0.01), trial(8, 0.2, 0.1), trial(8, 0.1, 0.2), trial(14, 0.1, 0.3), trial(14, 0.2, 0.5)]
    result = outcome(RATES, [*ranked, trial(8, 0.4, 0.9, "diverged")])
    means = {value["config"]["recipe.lr"]: (round(value["val_err1"], 6), value["trials"]) for value in result["values"]}
    assert means == {0.1: (0.25, 2), 0.2: (0.3, 2), 0.4: (0.505, 2)}
    assert result["chosen"] == {"recipe.lr": 0.1}
    assert sentence(result).startswith("the search chose recipe.lr=0.1 by mean validation error: recipe.lr=0.1 25.00 %")


def test_of_equal_values_the_first_that_is_listed_is_chosen() -> None:
    alike = [trial(depth, lr, 0.2 if lr == 0.1 else 0.1) for lr in (0.4, 0.2, 0.1) for depth in (14, 8)]
    assert outcome(RATES, alike)["chosen"] == {"recipe.lr": 0.2}
    result = outcome(SearchConfig(space=RATES.space, take=["recipe.lr", "model.depth"]), alike)
    assert result["chosen"] == {"recipe.lr": 0.2, "model.depth": 8} and len(result["values"]) == 6


def test_a_search_whose_trials_all_diverge_chooses_nothing() -> None:
    with pytest.raises(ValueError, match=r"every trial of sweep\.search diverged, .*; list other values"):
        outcome(RATES, [trial(depth, lr, 1.0, "diverged") for depth in (8, 14) for lr in (0.1, 0.2, 0.4)])


def test_the_search_stops_no_trial_early_and_the_sweep_trains_with_what_it_chose(workspace: Workspaces) -> None:
    search = "sweep.search={space:{model.depth:[8,14],recipe.lr:[0.1,0.2,0.4]},take:[recipe.lr]}"
    config = composed(workspace(), "sweep.space={seed:[0,1]}", "sweep.reduction_factor=4", search)
    assert config.sweep.search == RATES
    first = search_sweep(config, RATES).sweep
    assert (first.space, first.reduction_factor, first.search) == (RATES.space, 0, None)
    main = main_sweep(config, {"recipe.lr": 0.4})
    assert (main.recipe.lr, main.sweep.space, main.sweep.reduction_factor) == (0.4, {"seed": [0, 1]}, 4)


def test_a_trial_that_is_impossible_after_the_search_is_refused_before_it(workspace: Workspaces) -> None:
    root, search = workspace(), "sweep.search={space:{recipe.lr:[0.1]},take:[recipe.lr]}"
    config = composed(root, search, "sweep.space={model.depth:[8,9]}")
    with pytest.raises(ValueError, match=r"the sweep has a trial with model\.depth=9: model\.depth=9 is not 6n"):
        tune_sweep(config, root / "data/store/digits", root)
    assert not (root / "runs").exists()


def test_table_5_in_small_is_six_nets_of_five_depths_whatever_its_search_chooses(workspace: Workspaces) -> None:
    config = composed(workspace(), "data=cifar100", "recipe=cifar_fast", "sweep=cifar_ensemble")
    search = config.sweep.search
    first = search_sweep(config, search)
    assert len({trial_config(first, point).recipe.muon_lr for point in example_points(first.sweep.space)}) == 3
    for values in choices(search):
        main = main_sweep(config, values)
        nets = [trial_config(main, point) for point in example_points(main.sweep.space)]
        depths = [net.model.depth for net in nets]
        assert set(depths) == {20, 32, 44, 56, 110} and depths.count(110) == 2
        assert {net.recipe.muon_lr for net in nets} == set(values.values())


SEARCHED = (
    "sweep.search={space:{recipe.lr:[0.1,0.001],recipe.max_steps:[17]},take:[recipe.lr]}",
    *("sweep.space={model.depth:[8],seed:[0,1]}", "recipe.lr=0.3", "recipe.max_steps=340", TO_THE_END, IN_TURN),
)


@pytest.mark.slow
def test_a_search_and_its_sweep_go_on_where_they_stopped_and_the_searchs_trials_join_no_ensemble(
    workspace: Workspaces,
) -> None:
    root = workspace()
    kill_when(start(root, *SEARCHED), lambda: len(begun(root)) == 2, "the search's second trial")
    second = start(root, *SEARCHED)
    wait(second, lambda: len(begun(root)) == 3, "the sweep's first trial")
    second.signal(signal.SIGTERM)
    assert second.wait(PATIENCE_S) == INTERRUPTED, second.output
    assert "resuming search-" in second.output
    searched = begun(root)
    output = run(root, *SEARCHED)
    assert "resuming sweep-" in output and "the search chose recipe.lr=0.1 by mean validation error" in output
    leaderboard = read_json(root / "experiments" / "digits" / "leaderboard.json")
    search, members = leaderboard["search"]["trials"], {trial["key"] for trial in leaderboard["trials"]}
    assert [(trial["steps"], trial["config"]["recipe.lr"]) for trial in search] == [(17, 0.1), (17, 0.001)]
    assert [trial["steps"] for trial in leaderboard["trials"]] == [340, 340]
    assert all(begun(root)[trial["key"]] == searched[trial["key"]] for trial in search)  # not trained again
    runs = tracked(root)
    assert sorted(run.data.tags["pipeline.kind"] for run in runs) == [*["search"] * 2, *["sweep"] * 2, *["train"] * 2]
    assert {run.data.params["recipe.lr"] for run in runs if run.data.tags["pipeline.key"] in members} == {"0.1"}
    nets = Source.configured(composed(root), root / "data/store/digits").finished()
    assert {net.key for net in nets} == members
