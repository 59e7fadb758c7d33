"""A trial's configuration: the same training with a trial's choices."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from runs import TINY, composed

from pipeline.data.store import open_store
from pipeline.learn.training.divergence import DivergedError
from pipeline.tracking.location import KIND_TAG, PARENT_TAG, SEARCH, VARIED_TAG
from pipeline.tuning.space import POINT
from pipeline.tuning.trial import run_trial, trial_config, trial_tags


def test_a_trial_takes_its_choices_and_its_threads_and_selects_on_held_out_images(workspace):
    config = composed(workspace(), "trainer.threads=0", "cluster.cpus_per_trial=2", "data.split=full")
    changed = trial_config(config, {"model.depth": 20, "recipe.lr": 0.2})
    assert (changed.model.depth, changed.recipe.lr, changed.trainer.threads) == (20, 0.2, 2)
    assert (changed.trainer.launcher, changed.data.split) == ("lightning", "holdout")


def test_several_ranks_of_a_trial_are_launched_by_ray(workspace):
    assert trial_config(composed(workspace(), "trainer.devices=2"), {}).trainer.launcher == "ray"


def test_each_of_several_ranks_has_as_many_threads_as_ray_sets_cpus_aside_for_it(workspace):
    from pipeline.tuning.ranks import _trainer

    overrides = ("trainer.devices=2", "cluster.cpus_per_trial=4", "trainer.threads=0")
    config = trial_config(composed(workspace(), *overrides), {})
    trainer = _trainer(SimpleNamespace(config=config, key="0" * 12), {}, gpus=False, nested=False)
    assert trainer.scaling_config.num_cpus_per_worker == config.trainer.threads == 1


def test_a_report_names_the_epoch_of_its_step_and_the_best_error_so_far():
    from pipeline.run.recorder import Validated
    from pipeline.tuning.ranks import reported

    last = {"val/loss": 0.7, "val/err1": 0.3, "val/err5": 0.1}
    best = {"val/loss": 0.5, "val/err1": 0.2, "val/err5": 0.0, "step": 17.0}
    for step, epoch in ((34, 2), (40, 3)):
        given = reported(Validated("0123456789ab", 5, step, last, best), 17)
        assert given == {"epoch": epoch, "from_step": 5, "step": step, "key": "0123456789ab", "best/err1": 0.2, **last}


@pytest.mark.parametrize(("validated", "grace", "epoch"), [((), 1, 1), ((), 3, 3), ((17, 34), 1, 3)])
def test_one_that_diverges_counts_where_it_was_and_claims_its_run_for_itself(
    validated, grace, epoch, workspace, monkeypatch
):
    """The scheduler compares others with it from its first rung on; another trial of the sweep may come to the same run."""
    from pipeline.run.recorder import Validated

    root, made, owners = workspace(), [], []
    config = composed(root, *TINY, f"sweep.grace_epochs={grace}")

    def fit(*_: Any, report: Any, owner: str, **__: Any) -> None:
        owners.append(owner)
        for step in validated:
            report(Validated("k", 0, step, {"val/err1": 0.5}, {"val/err1": 0.5}))
        raise DivergedError("the loss is NaN")

    monkeypatch.setattr("pipeline.run.fit.fit", fit)
    monkeypatch.setattr("pipeline.tuning.trial.Draining", lambda: lambda: False)
    monkeypatch.setattr("ray.tune.report", made.append)
    store = root / "data" / "store" / "digits"
    for lr in (1e5, 2e5):
        run_trial(
            {POINT: {"recipe.lr": lr}},
            config=config.to_dict(),
            store=str(store),
            content_hash=open_store(store).manifest.content_hash,
            tags={PARENT_TAG: "sweep-1"},
            stop=str(root / "stop"),
        )
    assert made[-1]["epoch"] == epoch and made[-1]["error"] and len(made) == 2 * (len(validated) + 1)
    assert len(set(owners)) == 2 and all(owner.startswith("sweep-1 ") for owner in owners)


def test_an_impossible_choice_is_refused(workspace):
    with pytest.raises(ValueError, match=r"model\.depth=21 is not 6n"):
        trial_config(composed(workspace()), {"model.depth": 21})


def test_trials_that_make_a_part_of_a_training_are_no_candidates(workspace):
    config, searched = composed(workspace(), "recipe.max_steps=340"), {KIND_TAG: SEARCH}
    for point, given, kind in (
        ({"recipe.max_steps": 17}, searched, SEARCH),
        ({"data.num_train": 100}, searched, SEARCH),
        ({"data.num_train": 0}, searched, "train"),  # all images, as the sweep itself
        ({"recipe.max_steps": 340}, searched, "train"),
        ({"recipe.max_steps": 17}, {}, "train"),  # of sweep.space
    ):
        tags = trial_tags(config, point, {"mlflow.user": "me", **given})
        assert tags == {"mlflow.user": "me", KIND_TAG: kind, VARIED_TAG: ",".join(point)}
