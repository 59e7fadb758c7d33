"""Verdicts on the course of training."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from nets import make_net, make_recipe
from samples import make_curve, make_layers, make_sample, with_nets
from verdicts import IMAGENET, outcome, status

from pipeline.report.curve import EARLY_TRAIN, Curve


def with_layers(end, start):
    """A plain-56 whose layers have these standard deviations and gradients at the end and at the start of training."""
    plain = make_net(56, residual=False, steps=8_000)
    first = {"std": start[0], "gradient": start[1]} if start else None
    rows = [{**make_layers(plain, *end), "at_start": first}]
    return replace(with_nets(make_sample(), [], others=[plain]), responses=rows)


EVEN, WEAK, GONE = [1.0] * 3, [1.0, 0.5, 0.02], [1.0, 0.5, 1e-6]


@pytest.mark.parametrize(
    ("end", "start", "expected"),
    [
        ((EVEN, WEAK), (EVEN, WEAK), "holds"),
        ((EVEN, GONE), (EVEN, WEAK), "fails"),
        ((EVEN, [1.0, 0.5, 0.0]), (EVEN, WEAK), "fails"),
        ((EVEN, [0.0, 0.0, 1.0]), (EVEN, WEAK), "fails"),
        ((GONE, EVEN), (EVEN, WEAK), "fails"),  # nothing comes through forward
        ((EVEN, WEAK), (EVEN, GONE), "fails"),
        ((EVEN, WEAK), None, "inconclusive"),
        ((EVEN, GONE), None, "fails"),
    ],
)
def test_gradients_are_healthy_near_the_median_layers_from_start_to_end(end, start, expected):
    claim, inputs = "plain-gradients-are-healthy", with_layers(end, start)
    result = outcome(inputs, claim)
    assert (result.status, result.runs) == (expected, 1)
    assert ("plain-56 not measured at the start" in result.evidence) == (start is None)
    json.dumps(result.to_json(), allow_nan=False)
    (plain,) = inputs.nets
    assert status(with_nets(inputs, [], others=[replace(plain, steps=600)]), claim) == "not measured"


def cold_and_warm(*, late, end=0.07, every=1):
    """ResNet-110 from 0.1 at once, which errs on 95 % up to epoch `late`, and with a warm-up; validated `every` so many epochs."""
    warm = make_curve(make_net(110, recipe=make_recipe(warmup_lr=0.01)), 0.07)
    epochs = range(every, 31, every)
    val = [*((352 * epoch, 0.95 if epoch <= late else 0.2) for epoch in epochs), (warm.steps, end)]
    net = make_net(110, run_id="cold", key="cold")
    cold = replace(warm, net=net, points={**warm.points, "val/err1": val})
    return replace(make_sample(depths=()), curves=[warm, cold])


def test_a_cold_start_is_slow_and_ends_alike():
    claim = "cifar10-resnet110-without-warm-up"
    result = outcome(cold_and_warm(late=3), claim)
    assert (result.status, result.runs) == ("inconclusive", 2)  # single runs
    assert status(cold_and_warm(late=3, end=0.03), claim) == "holds"
    assert "above 90.00% for 3 epochs" in result.evidence
    assert status(cold_and_warm(late=1), claim) == "fails"
    assert status(cold_and_warm(late=10, end=0.03, every=10), claim) == "holds"
    assert status(cold_and_warm(late=9, end=0.03, every=10), claim) == "inconclusive"  # nothing was validated before
    assert status(cold_and_warm(late=3, end=0.2), claim) == "fails"
    one = cold_and_warm(late=3)
    result = outcome(replace(one, curves=one.curves[:1]), claim)
    assert result.status == "not measured" and "one without" in result.evidence


def of_plain_net(depth, errors, steps=600_000, val=0.3):
    """The curves of a plain net on ImageNet with these training errors in 50 parts of the training."""
    net = make_net(
        depth, residual=False, **{**IMAGENET, "steps": steps}, key=f"{depth}-{steps}", run_id=f"{depth}-{steps}"
    )
    train = [(steps // 50 * (at + 1), error) for at, error in enumerate(errors)]
    return Curve(net=net, points={"train/err1": train, "val/err1": [(steps, val)]})


def throughout(*curves):
    inputs = make_sample(name="imagenet", depths=(), plain=())
    return outcome(replace(inputs, curves=curves), "imagenet-plain-degrades-throughout")


@pytest.mark.parametrize(
    ("deep", "expected"),
    [
        ([0.5] * 50, "holds"),
        ([0.4001] * 50, "inconclusive"),  # by less than seeds differ
        ([0.5] * 49 + [0.4], "inconclusive"),
        ([0.5] * 49 + [0.399], "inconclusive"),  # 2.5 standard errors: beyond chance alone, not as one of 50 parts
        ([0.5] * 49 + [0.3], "fails"),
    ],
)
def test_throughout_means_in_each_part_of_the_training(deep, expected):
    result = throughout(of_plain_net(18, [0.4] * 50), of_plain_net(34, deep))
    assert (result.status, result.runs, result.length) == (expected, 2, 1.0)


def test_throughout_takes_nets_that_trained_equally_long_and_long_enough():
    low, high = [0.4] * 50, [0.5] * 50
    assert throughout(of_plain_net(34, high)).status == "not measured"
    assert throughout(of_plain_net(18, low, 1_000), of_plain_net(34, high, 1_000)).status == "not measured"
    eighth = throughout(of_plain_net(18, low, 75_000), of_plain_net(34, high, 75_000))
    assert (eighth.status, eighth.length) == ("holds", 0.125)
    # The best run of either net on validation images has the length at which the other's is worse.
    longer = of_plain_net(18, low, 1_800_000, val=0.28), of_plain_net(34, low, 1_800_000, val=0.33)
    result = throughout(of_plain_net(18, low, val=0.29), of_plain_net(34, high, val=0.32), *longer)
    assert (result.status, result.length) == ("holds", 1.0)


@pytest.mark.parametrize(("end", "expected"), [(400, "holds"), (150, "fails"), (1000, "fails"), (99_999, "fails")])
def test_a_warm_up_ends_when_the_training_error_falls_below_the_bound(end, expected):
    warm = make_curve(make_net(110, recipe=make_recipe(warmup_lr=0.01)), 0.07)
    train = [(step, 0.9 if step < end else 0.7) for step in range(50, 64_001, 50)]
    curve = replace(warm, points={**warm.points, "train/err1": train})
    inputs, claim = replace(make_sample(depths=()), curves=[curve]), "cifar10-warm-up-ends"
    result = outcome(inputs, claim)
    assert (result.status, result.value) == (expected, end if end < 64_000 else None)
    assert status(replace(inputs, curves=[make_curve(make_net(110), 0.07)]), claim) == "not measured"


def test_a_warm_up_at_another_rate_is_not_the_papers():
    warm = make_curve(make_net(110, recipe=make_recipe(warmup_lr=0.05)), 0.07)
    result = outcome(replace(make_sample(depths=()), curves=[warm]), "cifar10-warm-up-ends")
    assert result.status == "not measured" and "A run with a warm-up at 0.01 is needed" in result.evidence


def test_a_mean_over_steps_that_are_there_one_by_one_ends_no_warm_up():
    """A published curve: the mean of ten points is below the bound at a step before the first of them is."""
    net = make_net(110, recipe=make_recipe(warmup_lr=0.01))
    first = [(step, 0.9 if step < 400 else 0.5) for step in range(50, 2001, 50)]
    points = {EARLY_TRAIN: first, "train/err1": [(275, 0.78), (64_000, 0.01)], "val/err1": [(64_000, 0.07)]}
    inputs = replace(make_sample(depths=()), curves=[Curve(net=net, points=points)])
    assert outcome(inputs, "cifar10-warm-up-ends").value == 400
