from __future__ import annotations

import pytest

from pipeline.tracking.setting import setting

PARAMS = {
    "recipe.lr": "0.1",
    "recipe.decay_norm": "False",
    "recipe.precision": "auto",
    "precision": "bf16",
    "seed": "0",
}
PARAMS |= {"data.split": "holdout", "data.path": "/images", "model.depth": "20", "trainer.threads": "2"}


def test_only_what_decides_a_result_is_told():
    assert setting(PARAMS) == {"data.split": "holdout", "precision": "bf16", "recipe.decay_norm": "False"}


@pytest.mark.parametrize("key", ["recipe.decay_norm", "precision", "data.split", "recipe.momentum", "model.init_fan"])
def test_trainings_that_differ_in_it_are_told_apart(key):
    assert setting({**PARAMS, key: "other"}) != setting(PARAMS)


@pytest.mark.parametrize("key", ["seed", "trainer.threads", "data.path", "model.depth", "recipe.lr"])
def test_repetitions_and_other_nets_are_alike(key):
    assert setting({**PARAMS, key: "other"}) == setting(PARAMS)


def test_values_are_alike_before_and_after_mlflow_made_texts_of_them():
    typed = {"recipe.milestones": [10, 20], "recipe.nesterov": False, "recipe.weight_decay": 1e-4}
    assert setting(typed) == setting({key: str(value) for key, value in typed.items()})
