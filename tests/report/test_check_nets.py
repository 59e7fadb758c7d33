"""Verdicts on nets by their errors at the end of training."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from nets import make_model, make_net
from samples import make_curve, make_layers, make_sample, with_nets
from verdicts import IMAGENET, imagenet, outcome, seeds, status

from pipeline.report.check_nets import difference
from pipeline.report.trainings import Measured


def with_members(inputs, *errors):
    """Inputs whose members, in order, have these test errors."""
    nets = [replace(net, test_err1=error) for net, error in zip(inputs.members, errors, strict=True)]
    return with_nets(inputs, nets)


def difference_p(one, other):
    """p of a difference between single runs on 10,000 images."""
    a, b = (Measured("", error, (error,), 10_000, 64_000, full=False) for error in (one, other))
    return difference(a, b, 0.005).p(abs(one - other))


def test_depth_helps_compares_the_deepest_with_the_shallowest():
    inputs, claim = make_sample(), "cifar10-residual-gains"
    helps = outcome(with_members(inputs, 0.10, 0.08, 0.085, 0.07), claim)
    assert helps.status == "holds" and helps.value == pytest.approx(-0.03)
    assert helps.interval[0] < -0.03 < helps.interval[1] < 0
    assert "it rises from ResNet-32 to ResNet-44" in helps.evidence
    level = outcome(with_members(inputs, 0.07, 0.072, 0.071, 0.0705), claim)
    assert level.status == "inconclusive" and level.interval[0] < 0 < level.interval[1]
    assert status(with_members(inputs, 0.07, 0.08, 0.08, 0.12), claim) == "fails"
    between = outcome(with_members(inputs, 0.09, 0.06, 0.095, 0.07), claim)
    assert between.status == "fails" and "ResNet-44 errs more than ResNet-32: difference +3.50" in between.evidence
    assert between.p == pytest.approx(3 * difference_p(0.095, 0.06))
    # A rise of 1.65 points excludes zero as the only pair that is looked at, not as one of three.
    assert difference_p(0.0965, 0.08) < 0.05 < 3 * difference_p(0.0965, 0.08)
    assert status(with_members(inputs, 0.10, 0.08, 0.0965, 0.07), claim) == "holds"


def test_single_runs_need_a_larger_difference_than_several():
    """1.3 points on 10,000 images exclude zero over images, but not over the seeds of single runs."""
    claim, inputs = "cifar10-residual-gains", make_sample(depths=(20, 56), plain=(), lrs=(0.1,))

    def with_seeds(count):
        pairs = [(20, 0.080), (56, 0.067)]
        nets = [make_net(d, error=e, seed=s, run_id=f"{d}{s}", key=f"{d}{s}") for d, e in pairs for s in range(count)]
        return with_nets(inputs, nets, curves=[])

    single = outcome(with_seeds(1), claim)
    assert single.status == "inconclusive" and "runs of each would settle it" in single.evidence
    assert status(with_seeds(3), claim) == "holds"


def test_plain_nets_are_judged_on_the_validation_curves_of_their_best_runs():
    result = outcome(make_sample(), "cifar10-plain-degrades")
    assert result.status == "holds"
    assert "on 5,000 validation images" in result.evidence
    assert result.value == pytest.approx(-0.026 * 1.4854, abs=1e-4)  # log2(56 / 20)
    assert (result.runs, result.length) == (2, 1.0)
    assert status(make_sample(), "cifar10-residual-beats-plain-56") == "holds"
    assert status(make_sample(plain=(20,)), "cifar10-plain-degrades") == "not measured"
    assert status(make_sample(plain=()), "cifar10-residual-beats-plain-56") == "not measured"


def test_predecessors_are_no_plain_nets():
    inputs = make_sample(plain=())
    nets = [make_net(d, model=make_model(d, False, "vgg_bn_small"), run_id=f"vgg{d}") for d in (13, 16)]
    inputs = replace(inputs, curves=[*inputs.curves, *(make_curve(net, 0.1) for net in nets)])
    assert status(inputs, "cifar10-plain-degrades") == "not measured"


def with_responses(inputs, **means):
    """Mean responses of the evaluated nets, by depth: d20=0.5."""
    nets = [net for net in inputs.nets if f"d{net.model.depth}" in means]
    return replace(inputs, responses=[make_layers(n, [means[f"d{n.model.depth}"]] * 3, [1.0, 0.5, 0.9]) for n in nets])


def test_layer_responses_are_compared_by_their_mean_over_several_runs():
    inputs, claim = with_responses(make_sample(depths=(20, 56)), d20=0.5, d56=0.4), "cifar10-responses-fall-with-depth"
    single = outcome(inputs, claim)
    assert single.status == "inconclusive" and single.interval is None and single.value == pytest.approx(-0.1)
    assert single.evidence.startswith("ResNet-20 0.500, ResNet-56 0.400; no interval") and single.runs == 2
    three = with_responses(make_sample(depths=(20, 56, 110)), d20=0.5, d56=0.6, d110=0.4)
    assert "; it rises from ResNet-20 to ResNet-56" in outcome(three, claim).evidence
    nets = [make_net(d, seed=s, run_id=f"{d}{s}", key=f"{d}{s}") for d in (20, 56) for s in range(3)]
    stds = [[mean + 0.01 * net.seed] * 3 for net in nets for mean in (0.5 if net.model.depth == 20 else 0.4,)]
    layers = [make_layers(net, std, [1.0, 0.5, 0.9]) for net, std in zip(nets, stds, strict=True)]
    several = outcome(replace(with_nets(inputs, nets, curves=[]), responses=layers), claim)
    assert several.status == "holds" and several.interval[1] < 0
    assert status(inputs, "cifar10-responses-below-plain-56") == "not measured"


def test_five_seeds_are_compared_with_the_papers_five():
    claim = "cifar10-resnet110-seeds"
    result = outcome(seeds(0.0643, 0.0650, 0.0655, 0.0680, 0.0677), claim)
    assert (result.status, result.runs, result.value) == ("holds", 5, pytest.approx(0.0))
    assert "standard deviation 0.17, best 6.43%" in result.evidence and result.seeds == (0, 1, 2, 3, 4)
    assert status(seeds(0.080, 0.081, 0.079, 0.080, 0.080), claim) == "fails"
    near = outcome(seeds(0.0735, 0.0728, 0.0731, 0.0744, 0.0722), claim)  # nearer than the paper's own five tell
    assert near.status == "inconclusive" and near.evidence.endswith("no practical number of runs would settle it")
    assert status(seeds(0.066, 0.067, 0.066, 0.065), claim) == "not measured"
    twice = seeds(0.0643, 0.0650, 0.0655, 0.0680, 0.0677)
    nets = [*twice.members[:4], replace(twice.members[4], seed=3)]
    assert status(with_nets(twice, nets), claim) == "not measured"


def test_the_size_of_a_gain_is_compared_with_the_papers():
    nets = [make_net(18, error=0.2788, **IMAGENET), make_net(34, error=0.2503, model=make_model(34), **IMAGENET)]
    claim = "imagenet-residual-gain-of-depth"
    result = outcome(imagenet(*nets), claim)
    assert result.status == "holds" and "the claim: −2.80 ± 1 points" in result.evidence
    assert status(imagenet(nets[0], replace(nets[1], test_err1=0.27)), claim) == "fails"


def test_faster_convergence_is_a_lower_error_at_first():
    inputs = make_sample(name="imagenet", depths=(18,), plain=(18,), steps=600_000)
    claim = "imagenet-residual-converges-faster"
    result = outcome(inputs, claim)
    assert result.status == "inconclusive" and result.interval[0] < 0 < result.interval[1]
    assert "training images of the first quarter of the steps" in result.evidence
    (plain,) = [curve for curve in inputs.curves if curve.net.name == "plain-18"]
    train = plain.points["train/err1"]
    others = [curve for curve in inputs.curves if curve is not plain]
    for early, expected in ((0.0, "fails"), (0.5, "holds")):
        points = [(step, early if step <= train[-1][0] / 4 else 1.0) for step, _ in train]
        changed = replace(plain, points={**plain.points, "train/err1": points})
        assert status(replace(inputs, curves=[*others, changed]), claim) == expected


@pytest.mark.parametrize(("error", "expected"), [(0.65, "holds"), (0.605, "inconclusive"), (0.2, "fails")])
def test_bounds_of_the_paper(error, expected):
    inputs = replace(make_sample(), curves=[make_curve(make_net(110, residual=False), error)])
    assert status(inputs, "cifar10-plain-110-fails") == expected


@pytest.mark.parametrize(
    ("error", "expected"), [(0.0800, "holds"), (0.0875, "inconclusive"), (0.0930, "inconclusive"), (0.1200, "fails")]
)
def test_a_published_error_is_reached_within_the_protocols_margin(error, expected):
    result = outcome(with_members(make_sample(), error, 0.08, 0.08, 0.08), "cifar10-resnet20-table-6")
    assert (result.status, result.claim.paper) == (expected, {"ResNet-20": 8.75})
    assert f"{100 * error:.2f}%" in result.evidence and "up to 0.75 points above it" in result.evidence


def test_several_seeds_settle_a_published_error_that_one_leaves_open():
    def with_seeds(*errors):
        nets = [make_net(20, error=e, seed=s, run_id=f"{s}", key=f"{s}") for s, e in enumerate(errors)]
        return outcome(with_nets(make_sample(), nets, curves=[]), "cifar10-resnet20-table-6")

    alone, several = with_seeds(0.0875), with_seeds(0.0870, 0.0875, 0.0880)
    assert (alone.status, several.status) == ("inconclusive", "holds")
    assert "images and an assumed spread of seeds" in alone.evidence and "images and seeds" in several.evidence
    assert several.interval[1] < alone.interval[1]


def test_a_run_that_repeats_a_seed_shows_nothing_of_how_far_seeds_differ():
    nets = [make_net(20, error=0.0852, seed=0, run_id=key, key=key) for key in "ab"]
    result = outcome(with_nets(make_sample(), nets, curves=[]), "cifar10-resnet20-table-6")
    assert (result.status, result.runs, result.seeds) == ("inconclusive", 1, (0,))
    assert "an assumed spread of seeds" in result.evidence


def test_the_advice_is_for_more_runs_than_there_are_of_both_nets():
    def advised(plain, residual):
        nets = [
            make_net(20, residual=kind, error=error, seed=seed, run_id=f"{kind}{seed}", key=f"{kind}{seed}")
            for kind, errors in ((False, plain), (True, residual))
            for seed, error in enumerate(errors)
        ]
        result = outcome(with_nets(make_sample(), nets, curves=[]), "cifar10-residual-beats-plain-20")
        return int(re.search(r"about (\d+) runs of each would settle it", result.evidence)[1])

    alone = advised([0.0928], [0.080])
    assert alone == advised([0.0928], [0.080] * 5) > 5  # as many are needed of each, whatever there is of one
    assert 3 < advised([0.087, 0.0965, 0.0985], [0.080, 0.081, 0.082]) < 20


def test_of_a_single_net_runs_are_advised_not_runs_of_each():
    nets = [make_net(20, error=0.0852)]
    result = outcome(with_nets(make_sample(), nets, curves=[]), "cifar10-resnet20-table-6")
    assert re.search(r"; about \d+ runs would settle it", result.evidence)


def test_a_bound_names_the_images_of_the_error():
    curves = [make_curve(make_net(110, seed=seed, key=f"{seed}", run_id=f"{seed}"), 0.064) for seed in range(5)]
    result = outcome(with_nets(make_sample(), [], curves=curves), "cifar10-resnet110-below-highway")
    assert "6.40% (mean of 5 runs) on 5,000 validation images" in result.evidence


def test_imagenet_errors_need_the_papers_views_option_and_stride():
    nets = make_net(18, error=0.27, **IMAGENET), make_net(50, error=0.22, **IMAGENET)
    first, second = "imagenet-resnet18a-table-2", "imagenet-resnet50-table-3"
    assert [status(imagenet(*nets), claim) for claim in (first, second)] == ["holds", "holds"]
    assert status(imagenet(*nets, views="1-crop"), first) == "not measured"
    assert status(imagenet(*nets), "imagenet-resnet50-table-4") == "not measured"  # at other views
    others = [
        replace(nets[0], model=make_model(18, shortcut="C")),
        replace(nets[1], model=make_model(50, stride_on="3x3")),
    ]
    for claim in (first, second):
        result = outcome(imagenet(*others), claim)
        assert result.status == "not measured" and "So far" not in result.evidence


def test_top5_errors_of_the_tables_are_claims_of_their_own():
    net = make_net(50, error=0.30, test_err5=0.0671, **IMAGENET)
    result = outcome(imagenet(net), "imagenet-resnet50-table-3-top5")
    assert (result.status, result.claim.paper) == ("holds", {"ResNet-50": 6.71})
    assert "reaches 6.71% top-5 error" in result.claim.statement and "(top-5)" in result.evidence
    assert status(imagenet(net), "imagenet-resnet50-table-3") == "fails"
    assert status(imagenet(replace(net, test_err5=None)), "imagenet-resnet50-table-3-top5") == "not measured"


@pytest.mark.parametrize(
    ("residual", "expected"),
    [(0.2790, "holds"), (0.2860, "inconclusive"), (0.2726, "inconclusive"), (0.2000, "fails"), (0.3500, "fails")],
)
def test_comparable_nets_are_less_than_the_margin_apart(residual, expected):
    nets = make_net(18, error=0.2794, residual=False, **IMAGENET), make_net(18, error=residual, **IMAGENET)
    result = outcome(imagenet(*nets), "imagenet-18-layers-comparable")
    assert result.status == expected and "at most 1 either way" in result.evidence
