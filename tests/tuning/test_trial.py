"""A trial's configuration: the same training with a trial's choices."""

from __future__ import annotations

import pytest
from runs import composed

from pipeline.tuning.trial import trial_config


def test_a_trial_takes_its_choices_and_its_threads(workspace):
    config = composed(workspace(), "trainer.threads=0")
    changed = trial_config(config, {"model.depth": 20, "recipe.lr": 0.2}, cpus=2)
    assert (changed.model.depth, changed.recipe.lr, changed.trainer.threads) == (20, 0.2, 2)
    assert changed.trainer.launcher == "auto"


def test_a_trial_chooses_on_held_out_images_even_where_training_takes_all(workspace):
    config = composed(workspace(), "data.split=full")
    assert trial_config(config, {}, cpus=1).data.split == "holdout"


def test_several_ranks_of_a_trial_are_made_by_ray(workspace):
    config = composed(workspace(), "trainer.devices=2")
    assert trial_config(config, {}, cpus=1).trainer.launcher == "ray"


def test_an_impossible_choice_is_refused(workspace):
    with pytest.raises(ValueError, match=r"model\.depth=21 is not 6n"):
        trial_config(composed(workspace()), {"model.depth": 21}, cpus=1)
