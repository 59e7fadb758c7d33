"""Which trainings represent a net in a claim."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nets import make_net, make_recipe
from samples import make_curve, make_sample, with_nets
from verdicts import OF_ANY, OF_NETS, measured, outcome, seeds, status

from pipeline.report.comparison import differences
from pipeline.report.paper import PROTOCOLS


@pytest.mark.parametrize(
    "change", [{"schedule": "cosine", "milestones": []}, {"decay_norm": True}, {"lr": 0.05}, {"max_steps": 128_000}]
)
def test_nets_of_other_recipes_are_not_compared(change):
    first, second = nets = make_net(20, error=0.09), make_net(56, error=0.07)
    inputs = with_nets(make_sample(), nets, curves=[])
    assert status(inputs, "cifar10-residual-gains") == "holds"
    other = with_nets(inputs, [replace(first, recipe=make_recipe(**change)), second])
    same_length = "max_steps" in change  # the length is that of the training, wherever the recipe would have ended
    assert status(other, "cifar10-residual-gains") == ("holds" if same_length else "not measured")


def test_short_runs_settle_nothing_but_are_quoted():
    inputs = make_sample(steps=6_318)
    assert measured(inputs) == OF_ANY | OF_NETS
    evidence = outcome(inputs, "cifar10-resnet20-table-6").evidence
    assert evidence.endswith("64,000 steps. So far: ResNet-20 8.95% after 6,318.")
    assert "plain-56 13.36% on validation images after 6,318" in outcome(inputs, "cifar10-plain-degrades").evidence


def test_an_eighth_of_the_length_settles_comparisons_but_no_published_error():
    inputs = make_sample(steps=8_000)
    result = outcome(inputs, "cifar10-residual-gains")
    assert (result.status, result.length) == ("holds", 0.125)
    assert outcome(inputs, "cifar10-plain-degrades").length == 0.125
    assert status(inputs, "cifar10-resnet20-table-6") == "not measured"


def test_nets_of_different_lengths_are_not_compared():
    first, second = make_net(20, error=0.09, steps=8_000), make_net(56, error=0.07, steps=16_000)
    inputs = with_nets(make_sample(), [first, second], curves=[])
    assert status(inputs, "cifar10-residual-gains") == "not measured"
    assert status(with_nets(inputs, [first, replace(second, steps=8_000)]), "cifar10-residual-gains") == "holds"


def _lower_at_the_end(curve, start: float):
    """The curve with a training error of 1 % after `start`, in uneven steps as a log and its last line are."""
    points = [(step, 0.01 if step > start else 0.5) for step, _ in curve.points["train/err1"][:-1]]
    return replace(curve, points={**curve.points, "train/err1": [*points, (15_990, 0.01), (16_000, 0.01)]})


def test_training_errors_are_compared_over_the_images_that_they_count_and_only_of_finished_runs():
    inputs, claim = make_sample(steps=16_000), "cifar10-plain-degrades-train"
    result = outcome(inputs, claim)
    assert result.status == "inconclusive" and result.interval[0] < result.value < result.interval[1]
    assert "on 40,960 augmented training images" in result.evidence  # a fiftieth of the steps, 128 images each
    lower = replace(inputs, curves=[_lower_at_the_end(curve, 16_000 * 49 / 50) for curve in inputs.curves])
    assert "plain-56 1.00%, plain-20 1.00% on" in outcome(lower, claim).evidence
    worse = [make_curve(curve.net, 0.4) if curve.net.name == "plain-56" else curve for curve in inputs.curves]
    assert status(replace(inputs, curves=worse), claim) == "holds"
    stopped = [replace(curve, net=replace(curve.net, complete=curve.net.name != "plain-56")) for curve in inputs.curves]
    assert status(replace(inputs, curves=stopped), claim) == "not measured"


def test_another_recipe_is_no_paper_length_run():
    claim, errors = "cifar10-resnet110-seeds", (0.064, 0.066, 0.065, 0.066, 0.066)
    good = seeds(*errors)
    assert status(good, claim) == "holds" and "Recipe" not in " ".join(differences(good, PROTOCOLS["cifar10"]))
    for change in ({"schedule": "cosine", "milestones": []}, {"milestones": [1000]}, {"weight_decay": 0.0}):
        assert status(seeds(*errors, recipe=make_recipe(**change)), claim) == "not measured"
    assert status(with_nets(good, [replace(net, recipe=None) for net in good.members]), claim) == "not measured"
    assert status(seeds(*errors, callbacks='[{"_target_": "mine.Swap"}]'), claim) == "not measured"
    nets = [replace(good.members[0], recipe=make_recipe(nesterov=True)), *good.members[1:]]
    assert "nesterov True (the paper: False)" in " ".join(differences(with_nets(good, nets), PROTOCOLS["cifar10"]))


@pytest.mark.parametrize(
    "change", [{"steps": 192_000}, {"recipe": make_recipe(lr=0.01)}, {"start": "net.pth"}, {"num_train": 500}]
)
def test_a_longer_training_another_rate_or_another_beginning_does_not_speak_for_the_papers(change):
    inputs = make_sample(depths=(20,))
    other = make_net(20, **{"error": 0.01, "run_id": "other", "key": "other", "checkpoint_sha256": "o", **change})
    result = outcome(with_nets(inputs, inputs.members, others=[other]), "cifar10-resnet20-table-6")
    assert (result.value, result.length) == (inputs.members[0].test_err1, 1.0)


def test_a_warm_up_makes_another_kind_of_run():
    warm = seeds(0.066, 0.067, 0.065, 0.066, 0.066, recipe=make_recipe(warmup_lr=0.01))
    cold = make_net(110, error=0.05, run_id="cold", key="cold", checkpoint_sha256="cold")
    result = outcome(with_nets(warm, warm.members, others=[cold]), "cifar10-resnet110-seeds")
    assert (result.runs, result.value) == (
        5,
        pytest.approx(0.066 - 0.0661),
    )  # one run of another kind does not push them aside


def test_more_steps_need_all_of_them():
    claim, about = "imagenet-plain-degrades-longer", {"name": "imagenet", "depths": (18, 34), "plain": (18, 34)}
    short = outcome(make_sample(**about, steps=600_000), claim)
    assert short.status == "not measured" and "trained for 1,800,000 steps." in short.evidence
    long = outcome(make_sample(**about, steps=1_800_000), claim)
    assert (long.status, long.length) == ("holds", 3.0)


def test_several_seeds_count_by_their_mean():
    nets = [make_net(20, error=error, seed=seed) for seed, error in enumerate((0.08, 0.1))]
    result = outcome(with_nets(make_sample(), nets), "cifar10-resnet20-table-6")
    assert result.value == pytest.approx(0.09)
    assert "mean of 2 runs" in result.evidence
