from __future__ import annotations

import dataclasses

import pytest

from pipeline.report.claims import assess
from pipeline.report.paper import CLAIMS


def outcome(inputs, claim):
    return next(found for found in assess(inputs) if found.id == claim)


def with_ensemble(inputs, **changes):
    return dataclasses.replace(
        inputs, evaluation={**inputs.evaluation, "ensemble": {**inputs.ensemble, **changes}}, curves=inputs.curves
    )


def with_members(inputs, *errors):
    """Inputs whose members, in order, have these test errors."""
    members = [{**net, "test_err1": error} for net, error in zip(inputs.members, errors, strict=True)]
    return dataclasses.replace(inputs, evaluation={**inputs.evaluation, "members": members, "run": None})


def test_every_claim_has_one_outcome(make_sample):
    assert [found.id for found in assess(make_sample())] == [claim.id for claim in CLAIMS]
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)


def test_on_another_data_set_only_the_ensemble_is_measured(make_sample):
    outcomes = assess(make_sample(name="digits", steps=510))
    assert [found.id for found in outcomes if found.status != "not measured"] == ["ensemble-beats-best-member"]
    assert "these runs are on digits" in outcomes[1].evidence


def test_ensemble_gain_follows_the_errors_and_its_interval_tells_chance(make_sample):
    inputs = make_sample()
    best = inputs.best_member["test_err1"]
    gain = {"estimate": -0.001, "ci95": [-0.003, 0.001]}
    found = outcome(
        with_ensemble(inputs, test_err1=best - 0.001, difference_to_best_member=gain), "ensemble-beats-best-member"
    )
    assert (found.status, found.beyond_chance) == ("holds", False)
    assert "may be chance" in found.evidence
    worse = with_ensemble(inputs, test_err1=best + 0.001)
    assert outcome(worse, "ensemble-beats-best-member").status == "fails"
    assert outcome(with_ensemble(inputs, test_err1=best), "ensemble-beats-best-member").status == "fails"


@pytest.mark.parametrize("change", [{"size": 1}, None])
def test_no_ensemble_is_no_measurement(make_sample, change):
    inputs = make_sample()
    ensemble = None if change is None else {**inputs.ensemble, **change}
    inputs = dataclasses.replace(inputs, evaluation={**inputs.evaluation, "ensemble": ensemble})
    assert outcome(inputs, "ensemble-beats-best-member").status == "not measured"


def test_depth_helps_compares_the_deepest_with_the_shallowest(make_sample):
    inputs = make_sample()
    helps = outcome(with_members(inputs, 0.09, 0.08, 0.085, 0.07), "deeper-residual-nets-err-less")
    assert (helps.status, helps.beyond_chance) == ("holds", True)
    assert helps.value == pytest.approx(-0.02)
    assert helps.interval[0] < -0.02 < helps.interval[1]
    hurts = outcome(with_members(inputs, 0.07, 0.08, 0.085, 0.0705), "deeper-residual-nets-err-less")
    assert (hurts.status, hurts.beyond_chance) == ("fails", False)
    same = outcome(with_members(inputs, 0.07, 0.08, 0.085, 0.07), "deeper-residual-nets-err-less")
    assert same.status == "fails"


def test_plain_nets_are_judged_on_the_validation_curves_of_their_best_runs(make_sample):
    found = outcome(make_sample(), "deeper-plain-nets-err-more")
    assert found.status == "holds"
    assert "on 5,000 validation images" in found.evidence
    assert found.value == pytest.approx(0.026 * 1.4854, abs=1e-4)  # log2(56 / 20)
    assert outcome(make_sample(), "residual-beats-plain").status == "holds"
    assert outcome(make_sample(plain=(20,)), "deeper-plain-nets-err-more").status == "not measured"
    assert outcome(make_sample(plain=()), "residual-beats-plain").status == "not measured"


def test_short_runs_settle_nothing_but_are_quoted(make_sample):
    outcomes = assess(make_sample(steps=6_318))
    assert {found.status for found in outcomes if found.id != "ensemble-beats-best-member"} == {"not measured"}
    evidence = outcome(make_sample(steps=6_318), "cifar10-resnet20-error").evidence
    assert evidence.endswith("64,000 iterations. So far: ResNet-20 8.95% after 6,318.")
    plain = outcome(make_sample(steps=6_318), "deeper-plain-nets-err-more").evidence
    assert "plain-56 13.36% on validation after 6,318" in plain


@pytest.mark.parametrize(
    ("error", "status", "beyond_chance"),
    [(0.0800, "holds", True), (0.0875, "holds", False), (0.0910, "holds", False), (0.0960, "fails", True)],
)
def test_a_published_error_is_reached_unless_the_whole_interval_lies_above(make_sample, error, status, beyond_chance):
    found = outcome(with_members(make_sample(), error, 0.08, 0.08, 0.08), "cifar10-resnet20-error")
    assert (found.status, found.beyond_chance, found.paper) == (status, beyond_chance, 0.0875)
    assert f"{100 * error:.2f}%" in found.evidence


def test_several_seeds_count_by_their_mean(make_sample):
    inputs = with_members(make_sample(), 0.080, 0.08, 0.08, 0.08)
    twin = {**inputs.members[0], "run_id": "twin", "seed": 1, "test_err1": 0.100}
    inputs = dataclasses.replace(inputs, evaluation={**inputs.evaluation, "members": [*inputs.members, twin]})
    found = outcome(inputs, "cifar10-resnet20-error")
    assert found.value == pytest.approx(0.09)
    assert "mean of 2 runs" in found.evidence


def test_imagenet_errors_need_the_papers_views(make_sample):
    inputs = make_sample(name="imagenet", depths=(18, 34), plain=(18, 34), steps=600_000)
    assert outcome(inputs, "imagenet-resnet18-error").status == "not measured"
    evaluation = {**inputs.evaluation, "data": {"protocol": "10-crop"}}
    ten_crop = dataclasses.replace(inputs, evaluation=evaluation)
    assert outcome(ten_crop, "imagenet-resnet18-error").status == "holds"
    assert outcome(ten_crop, "imagenet-ensemble-top5").status == "not measured"
    assert "not public" in outcome(ten_crop, "imagenet-ensemble-top5").evidence


def test_a_published_error_is_credited_to_the_nets_own_option_and_stride(make_sample):
    inputs = make_sample(name="imagenet", depths=(34, 50), plain=(), steps=600_000)
    members = [{**net, "model": name} for net, name in zip(inputs.members, ("resnet34C", "resnet50_v1.5"), strict=True)]
    evaluation = {**inputs.evaluation, "members": members, "data": {"protocol": "10-crop"}}
    option_c = dataclasses.replace(inputs, evaluation=evaluation, curves=())
    for claim in ("imagenet-resnet34-error", "imagenet-resnet50-error"):
        assert outcome(option_c, claim).status == "not measured"
        assert "So far" not in outcome(option_c, claim).evidence
    members[0]["model"], members[1]["model"] = "resnet34", "resnet50"
    for claim in ("imagenet-resnet34-error", "imagenet-resnet50-error"):
        assert outcome(option_c, claim).status == "holds"


def test_outcomes_are_json(make_sample):
    import json

    assert json.loads(json.dumps([found.to_json() for found in assess(make_sample())], allow_nan=False))


def test_other_systems_are_no_plain_nets(make_sample):
    inputs = make_sample(plain=())
    named = {"vgg13_bn_small": 13, "vgg16_bn_small": 16}
    curves = [
        {**inputs.curves[0], "run_id": model, "model": model, "depth": depth, "residual": False}
        for model, depth in named.items()
    ]
    inputs = dataclasses.replace(inputs, curves=[*inputs.curves, *curves])
    assert outcome(inputs, "deeper-plain-nets-err-more").status == "not measured"
