"""conf/'s search space as Ray Tune's."""

from __future__ import annotations

import pytest

from pipeline.tuning.space import grid_size, search_space, trial_name


def test_lists_become_a_grid_and_ranges_are_drawn_from():
    space = search_space({"model.depth": [8, 14], "recipe.lr": {"loguniform": [0.01, 0.1]}})
    assert space["model.depth"] == {"grid_search": [8, 14]}
    assert 0.01 <= space["recipe.lr"].sample() <= 0.1
    assert grid_size({"model.depth": [8, 14], "seed": [0, 1, 2], "recipe.lr": {"uniform": [0.1, 0.2]}}) == 6


@pytest.mark.parametrize(
    "values", [[], {"normal": [0, 1]}, {"uniform": [1, 0]}, {"uniform": [0, 1], "loguniform": [1, 2]}, 3]
)
def test_what_is_neither_is_refused_in_one_sentence(values):
    with pytest.raises(ValueError, match=r"sweep.space: recipe.lr is .*; give a list of values, or"):
        search_space({"recipe.lr": values})


def test_a_trial_is_named_after_its_configuration():
    assert trial_name({"model.depth": 20, "recipe.lr": 0.1, "model.residual": True}) == "depth=20,lr=0.1,residual=True"
