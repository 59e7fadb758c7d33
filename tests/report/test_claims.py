from __future__ import annotations

import dataclasses
import json

import pytest

from pipeline.report.claims import assess
from pipeline.report.comparison import differences
from pipeline.report.outcome import near
from pipeline.report.paper import CLAIMS, PROTOCOLS


def outcome(inputs, claim):
    return next(found for found in assess(inputs) if found.claim.id == claim)


def with_ensemble(inputs, **changes):
    return dataclasses.replace(
        inputs, evaluation={**inputs.evaluation, "ensemble": {**inputs.ensemble, **changes}}, curves=inputs.curves
    )


def with_members(inputs, *errors):
    """Inputs whose members, in order, have these test errors."""
    members = [{**net, "test_err1": error} for net, error in zip(inputs.members, errors, strict=True)]
    return dataclasses.replace(inputs, evaluation={**inputs.evaluation, "members": members, "run": None})


def test_every_claim_has_one_outcome(make_sample):
    assert [found.claim for found in assess(make_sample())] == list(CLAIMS)
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)


OF_ANY = {"ensemble-beats-best-member", "ensemble-beats-best-member-top5"}
OF_NETS = {
    "table-1-flops",
    "table-6-params",
    "resnet152-below-vgg",
    "plain34-is-a-fifth-of-vgg19",
    "shortcuts-are-free",
}


def measured(inputs):
    return {found.claim.id for found in assess(inputs) if found.status != "not measured"}


def test_on_another_data_set_only_what_holds_on_any_is_measured(make_sample):
    inputs = make_sample(name="digits", steps=510)
    assert measured(inputs) == OF_ANY | OF_NETS
    assert "these runs are on digits" in outcome(inputs, "cifar10-plain-degrades").evidence


def test_ensemble_gain_follows_the_errors_and_its_interval_tells_chance(make_sample):
    inputs = make_sample()
    best = inputs.best_member["test_err1"]
    gain = {"estimate": -0.001, "ci95": [-0.003, 0.001]}
    found = outcome(
        with_ensemble(inputs, test_err1=best - 0.001, difference_to_best_member=gain), "ensemble-beats-best-member"
    )
    assert (found.status, found.beyond_chance) == ("holds", False)
    assert "may be chance" in found.evidence
    for difference in (0.001, 0.0):
        worse = with_ensemble(
            inputs, test_err1=best + difference, difference_to_best_member={**gain, "estimate": difference}
        )
        assert outcome(worse, "ensemble-beats-best-member").status == "fails"


@pytest.mark.parametrize("change", [{"size": 1}, None])
def test_no_ensemble_is_no_measurement(make_sample, change):
    inputs = make_sample()
    ensemble = None if change is None else {**inputs.ensemble, **change}
    inputs = dataclasses.replace(inputs, evaluation={**inputs.evaluation, "ensemble": ensemble})
    assert outcome(inputs, "ensemble-beats-best-member").status == "not measured"


def test_depth_helps_compares_the_deepest_with_the_shallowest(make_sample):
    inputs = make_sample()
    helps = outcome(with_members(inputs, 0.09, 0.08, 0.085, 0.07), "cifar10-residual-gains")
    assert (helps.status, helps.beyond_chance) == ("holds", True)
    assert helps.value == pytest.approx(-0.02)
    assert helps.interval[0] < -0.02 < helps.interval[1]
    hurts = outcome(with_members(inputs, 0.07, 0.072, 0.071, 0.0705), "cifar10-residual-gains")
    assert (hurts.status, hurts.beyond_chance) == ("fails", False)
    same = outcome(with_members(inputs, 0.07, 0.07, 0.07, 0.07), "cifar10-residual-gains")
    assert same.status == "fails"


def test_a_net_in_between_that_errs_more_beyond_chance_breaks_the_chain(make_sample):
    found = outcome(with_members(make_sample(), 0.09, 0.08, 0.095, 0.07), "cifar10-residual-gains")
    assert (found.status, found.beyond_chance) == ("fails", True)
    assert "ResNet-44 errs more than ResNet-32 beyond chance" in found.evidence


def test_nets_of_other_recipes_are_not_held_against_each_other(make_sample):
    inputs = make_sample(depths=(20, 56), plain=())
    inputs = dataclasses.replace(inputs, curves=[curve for curve in inputs.curves if curve["lr"] == 0.1])
    assert outcome(inputs, "cifar10-residual-gains").status == "holds"
    first, *others = inputs.curves
    apart = dataclasses.replace(
        inputs, curves=[{**first, "recipe": {**first["recipe"], "schedule": "one_cycle"}}, *others]
    )
    assert outcome(apart, "cifar10-residual-gains").status == "not measured"
    decayed = dataclasses.replace(
        inputs, curves=[{**first, "recipe": {**first["recipe"], "decay_norm": True}}, *others]
    )
    assert outcome(decayed, "cifar10-residual-gains").status == "not measured"
    slower = [{**inputs.members[0], "lr": 0.05}, *inputs.members[1:]]
    rates = dataclasses.replace(inputs, evaluation={**inputs.evaluation, "members": slower, "run": None})
    assert outcome(rates, "cifar10-residual-gains").status == "not measured"


def test_plain_nets_are_judged_on_the_validation_curves_of_their_best_runs(make_sample):
    found = outcome(make_sample(), "cifar10-plain-degrades")
    assert found.status == "holds"
    assert "on 5,000 validation images" in found.evidence
    assert found.value == pytest.approx(-0.026 * 1.4854, abs=1e-4)  # log2(56 / 20)
    assert (found.runs, found.length) == (2, 1.0)
    assert outcome(make_sample(), "cifar10-residual-beats-plain-56").status == "holds"
    assert outcome(make_sample(plain=(20,)), "cifar10-plain-degrades").status == "not measured"
    assert outcome(make_sample(plain=()), "cifar10-residual-beats-plain-56").status == "not measured"


def test_short_runs_settle_nothing_but_are_quoted(make_sample):
    inputs = make_sample(steps=6_318)
    assert measured(inputs) == OF_ANY | OF_NETS
    evidence = outcome(inputs, "cifar10-resnet20-table-6").evidence
    assert evidence.endswith("64,000 iterations. So far: ResNet-20 8.95% after 6,318.")
    plain = outcome(inputs, "cifar10-plain-degrades").evidence
    assert "plain-56 13.36% on validation images after 6,318" in plain


def test_an_eighth_of_the_length_settles_comparisons_but_no_published_error(make_sample):
    inputs = make_sample(steps=8_000)
    found = outcome(inputs, "cifar10-residual-gains")
    assert (found.status, found.length) == ("holds", 0.125)
    assert outcome(inputs, "cifar10-plain-degrades").length == 0.125
    assert outcome(inputs, "cifar10-resnet20-table-6").status == "not measured"


def test_nets_of_different_lengths_are_not_compared(make_sample):
    inputs = make_sample(depths=(20, 56), plain=())
    members = [{**net, "steps": steps} for net, steps in zip(inputs.members, (8_000, 16_000), strict=True)]
    apart = dataclasses.replace(inputs, evaluation={**inputs.evaluation, "members": members, "run": None}, curves=())
    assert outcome(apart, "cifar10-residual-gains").status == "not measured"
    members[1]["steps"] = 8_000
    assert outcome(apart, "cifar10-residual-gains").status == "holds"


def test_training_errors_are_compared_without_an_interval(make_sample):
    found = outcome(make_sample(), "cifar10-plain-degrades-train")
    assert found.status == "holds" and found.interval is None
    assert "on 45,000 training images" in found.evidence


def with_responses(inputs, **means):
    layers = [
        {
            **{key: net[key] for key in ("run_id", "model", "depth", "residual", "seed")},
            "key": net.get("key", ""),
            "std": [means[net["model"]]] * 3,
            "gradient": [1.0, 0.5, 0.9],
        }
        for net in inputs.nets
        if net["model"] in means
    ]
    return dataclasses.replace(inputs, responses=layers)


def test_layer_responses_are_compared_by_their_mean(make_sample):
    inputs = make_sample(depths=(20, 56))
    for net in inputs.members:
        net["key"] = net["model"]  # known by its key and by its run, as it is in earnest
    inputs = with_responses(inputs, resnet20=0.5, resnet56=0.4)
    found = outcome(inputs, "cifar10-responses-fall-with-depth")
    assert found.status == "holds" and found.value == pytest.approx(-0.1)
    assert found.evidence == "ResNet-20 0.500, ResNet-56 0.400" and found.runs == 2
    three = make_sample(depths=(20, 56, 110))
    found = outcome(
        with_responses(three, resnet20=0.5, resnet56=0.6, resnet110=0.4), "cifar10-responses-fall-with-depth"
    )
    assert found.status == "holds" and found.evidence.endswith("; it rises from ResNet-20 to ResNet-56")
    assert outcome(inputs, "cifar10-responses-below-plain-56").status == "not measured"


@pytest.mark.parametrize(
    ("gradient", "status"),
    [([1.0, 0.5, 0.02], "holds"), ([1.0, 0.5, 1e-6], "fails"), ([1.0, 0.5, 0.0], "fails"), ([0.0, 0.0, 1.0], "fails")],
)
def test_gradients_are_healthy_near_the_median_layers(make_sample, gradient, status):
    net = {"run_id": "r", "key": "k", "model": "plain56", "depth": 56, "residual": False, "seed": 0}
    inputs = make_sample(depths=(20,), steps=8_000)
    evaluated = {**inputs.evaluation, "others": [{**inputs.members[0], **net}]}
    inputs = dataclasses.replace(
        inputs, evaluation=evaluated, responses=[{**net, "std": [1.0] * 3, "gradient": gradient}]
    )
    found = outcome(inputs, "plain-gradients-are-healthy")
    assert (found.status, found.runs) == (status, 1)
    json.dumps(found.to_json(), allow_nan=False)
    silent = dataclasses.replace(inputs, responses=[{**net, "std": [1.0, 1.0, 1e-6], "gradient": [1.0] * 3}])
    assert outcome(silent, "plain-gradients-are-healthy").status == "fails"  # nothing comes through forward
    evaluated["others"][0]["steps"] = 600
    assert outcome(inputs, "plain-gradients-are-healthy").status == "not measured"


def with_seeds(make_sample, *errors, **curve):
    """A ResNet-110 a seed with these test errors; what is known of their curves."""
    inputs = make_sample(depths=(110,))
    nets = [
        {**inputs.members[0], "run_id": f"r{seed}", "seed": seed, "test_err1": error, "val_err1": error}
        for seed, error in enumerate(errors)
    ]
    curves = [{**inputs.curves[0], "run_id": net["run_id"], "points": {}, **curve} for net in nets]
    evaluation = {**inputs.evaluation, "members": nets, "run": None}
    return dataclasses.replace(inputs, evaluation=evaluation, curves=curves)


def test_five_seeds_are_held_against_the_papers_five(make_sample):
    def runs(*errors):
        return with_seeds(make_sample, *errors)

    found = outcome(runs(0.0643, 0.0650, 0.0655, 0.0680, 0.0677), "cifar10-resnet110-seeds")
    assert (found.status, found.runs, found.value) == ("holds", 5, pytest.approx(0.0661))
    assert "standard deviation 0.17, best 6.43%" in found.evidence
    assert outcome(runs(0.080, 0.081, 0.079, 0.080, 0.080), "cifar10-resnet110-seeds").status == "fails"
    assert outcome(runs(0.0700, 0.0700, 0.0700, 0.0700, 0.0700), "cifar10-resnet110-seeds").status == "fails"
    assert found.seeds == (0, 1, 2, 3, 4)
    assert outcome(runs(0.066, 0.067, 0.066, 0.065), "cifar10-resnet110-seeds").status == "not measured"
    twice = runs(0.0643, 0.0650, 0.0655, 0.0680, 0.0677)
    twice.members[4]["seed"] = 3
    assert outcome(twice, "cifar10-resnet110-seeds").status == "not measured"


def test_another_recipe_is_no_paper_length_run(make_sample):
    papers = {"batch_size": 128.0, "schedule": "multistep", "weight_decay": 1e-4}
    good = with_seeds(make_sample, 0.064, 0.066, 0.065, 0.066, 0.066, recipe=papers)
    assert outcome(good, "cifar10-resnet110-seeds").status == "holds"
    for change in ({"schedule": "cosine"}, {"milestones": [1000]}, {"augment.padding": 0.0}):
        other = with_seeds(make_sample, 0.064, 0.066, 0.065, 0.066, 0.066, recipe={**papers, **change})
        assert outcome(other, "cifar10-resnet110-seeds").status == "not measured"
    unknown = with_seeds(make_sample, 0.064, 0.066, 0.065, 0.066, 0.066, recipe={})
    assert outcome(unknown, "cifar10-resnet110-seeds").status == "not measured"
    mixed = dataclasses.replace(
        good, curves=[{**good.curves[0], "recipe": {**papers, "nesterov": True}}, *good.curves[1:]]
    )
    assert "nesterov True (the paper: False)" in " ".join(differences(mixed, PROTOCOLS["cifar10"]))
    assert "Recipe" not in " ".join(differences(good, PROTOCOLS["cifar10"]))


def test_a_stopped_training_is_no_shorter_one(make_sample):
    inputs = make_sample(steps=16_000)
    assert outcome(inputs, "cifar10-plain-degrades-train").status == "holds"
    (plain,) = [curve for curve in inputs.curves if curve["model"] == "plain56"]
    plain["complete"] = False
    assert outcome(inputs, "cifar10-plain-degrades-train").status == "not measured"


def test_a_longer_training_does_not_speak_for_the_papers_length(make_sample):
    inputs = make_sample(depths=(20,))
    longer = {**inputs.members[0], "run_id": "longer", "steps": 192_000, "test_err1": 0.01, "val_err1": 0.01}
    inputs = dataclasses.replace(inputs, evaluation={**inputs.evaluation, "others": [longer]})
    found = outcome(inputs, "cifar10-resnet20-table-6")
    assert (found.value, found.length) == (inputs.members[0]["test_err1"], 1.0)


def cold_and_warm(make_sample, *, late, end=0.07):
    """ResNet-110 from 0.1 at once, which errs on 95 % until validation `late`, and with a warm-up."""
    inputs = make_sample(depths=(110,))
    warm = min((c for c in inputs.curves if c["model"] == "resnet110"), key=lambda c: c["points"]["val/err1"][-1][1])
    val = [[step, 0.95 if at < late else error] for at, (step, error) in enumerate(warm["points"]["val/err1"])]
    val[-1] = [val[-1][0], end]
    cold = {**warm, "run_id": "cold", "points": {**warm["points"], "val/err1": val}}
    return dataclasses.replace(inputs, curves=[{**warm, "warmup": True}, cold])


def test_a_cold_start_is_slow_and_ends_alike(make_sample):
    name = "cifar10-resnet110-without-warm-up"
    found = outcome(cold_and_warm(make_sample, late=3), name)
    assert (found.status, found.runs) == ("holds", 2)
    assert "above 90.00% until validation 4" in found.evidence
    assert outcome(cold_and_warm(make_sample, late=1), name).status == "fails"
    assert outcome(cold_and_warm(make_sample, late=3, end=0.2), name).status == "fails"
    one = cold_and_warm(make_sample, late=3)
    found = outcome(dataclasses.replace(one, curves=one.curves[:1]), name)
    assert found.status == "not measured" and "one without" in found.evidence


def test_a_warm_up_makes_another_kind_of_run(make_sample):
    warm = with_seeds(make_sample, 0.066, 0.067, 0.065, 0.066, 0.066, warmup=True)
    cold = {**warm.members[0], "run_id": "cold", "val_err1": 0.05, "test_err1": 0.05}
    inputs = dataclasses.replace(warm, evaluation={**warm.evaluation, "others": [cold]})
    found = outcome(inputs, "cifar10-resnet110-seeds")
    assert (found.runs, found.value) == (5, pytest.approx(0.066))  # one run of another kind does not push them aside


def test_more_iterations_need_all_of_them(make_sample):
    name = "imagenet-plain-degrades-longer"
    short = outcome(make_sample(name="imagenet", depths=(18, 34), plain=(18, 34), steps=600_000), name)
    assert short.status == "not measured" and "trained for 1,800,000 iterations." in short.evidence
    long = outcome(make_sample(name="imagenet", depths=(18, 34), plain=(18, 34), steps=1_800_000), name)
    assert (long.status, long.length) == ("holds", 3.0)


def test_faster_convergence_is_a_lower_error_at_first(make_sample):
    inputs = make_sample(name="imagenet", depths=(18,), plain=(18,), steps=600_000)
    claim = "imagenet-residual-converges-faster"
    found = outcome(inputs, claim)
    assert found.status == "holds" and found.interval is None
    assert "mean over the first quarter of the training" in found.evidence
    (plain,) = [curve for curve in inputs.curves if curve["model"] == "plain18"]
    last = plain["points"]["train/err1"][-1][0]
    plain["points"]["train/err1"] = [
        [step, 0.0] if step <= last / 4 else [step, 1.0] for step, _ in plain["points"]["train/err1"]
    ]
    assert outcome(inputs, claim).status == "fails"


@pytest.mark.parametrize(("error", "status"), [(0.61, "holds"), (0.2, "fails")])
def test_bounds_of_the_paper(make_sample, error, status):
    inputs = make_sample(plain=(110,))
    (plain,) = [curve for curve in inputs.curves if curve["model"] == "plain110"]
    plain["points"]["val/err1"][-1][1] = error
    assert outcome(inputs, "cifar10-plain-110-fails").status == status


def test_runs_at_another_learning_rate_do_not_speak_for_a_net(make_sample):
    inputs = make_sample(depths=(20,))
    nets = [{**inputs.members[0], "run_id": "slow", "lr": 0.01, "val_err1": 0.2, "test_err1": 0.2}, *inputs.members]
    both = dataclasses.replace(inputs, evaluation={**inputs.evaluation, "others": nets[:1]})
    assert outcome(both, "cifar10-resnet20-table-6").value == inputs.members[0]["test_err1"]


def test_counts_of_the_nets_are_the_papers(make_sample):
    found = {name: outcome(make_sample(), name) for name in OF_NETS}
    assert {name: o.status for name, o in found.items()} == dict.fromkeys(OF_NETS, "holds")
    assert "resnet152 11.3×10⁹" in found["table-1-flops"].evidence
    assert found["plain34-is-a-fifth-of-vgg19"].value == pytest.approx(0.18, abs=0.01)


def test_the_report_tells_what_would_measure_the_rest(make_sample):
    missing = [found for found in assess(make_sample(steps=510)) if found.status == "not measured"]
    assert all(found.claim.command for found in missing)


@pytest.mark.parametrize(
    ("error", "status", "beyond_chance"),
    [(0.0800, "holds", True), (0.0875, "holds", False), (0.0910, "holds", False), (0.0960, "fails", True)],
)
def test_a_published_error_is_reached_unless_the_whole_interval_lies_above(make_sample, error, status, beyond_chance):
    found = outcome(with_members(make_sample(), error, 0.08, 0.08, 0.08), "cifar10-resnet20-table-6")
    assert (found.status, found.beyond_chance) == (status, beyond_chance)
    assert found.claim.paper == {"resnet20": 8.75}
    assert f"{100 * error:.2f}%" in found.evidence


def test_several_seeds_count_by_their_mean(make_sample):
    inputs = with_members(make_sample(), 0.080, 0.08, 0.08, 0.08)
    twin = {**inputs.members[0], "run_id": "twin", "seed": 1, "test_err1": 0.100}
    curves = [*inputs.curves, {**inputs.curves[0], "run_id": "twin"}]
    evaluation = {**inputs.evaluation, "members": [*inputs.members, twin]}
    inputs = dataclasses.replace(inputs, evaluation=evaluation, curves=curves)
    found = outcome(inputs, "cifar10-resnet20-table-6")
    assert found.value == pytest.approx(0.09)
    assert "mean of 2 runs" in found.evidence


def test_imagenet_errors_need_the_papers_views(make_sample):
    inputs = make_sample(name="imagenet", depths=(18, 34), plain=(18, 34), steps=600_000)
    assert outcome(inputs, "imagenet-resnet18-table-2").status == "not measured"
    evaluation = {**inputs.evaluation, "data": {"protocol": "10-crop"}}
    ten_crop = dataclasses.replace(inputs, evaluation=evaluation)
    assert outcome(ten_crop, "imagenet-resnet18-table-2").status == "holds"
    assert outcome(ten_crop, "imagenet-ensemble-top5").status == "not measured"
    assert "not public" in outcome(ten_crop, "imagenet-ensemble-top5").evidence


def test_an_interval_that_reaches_over_both_sides_of_the_margin_settles_nothing(make_sample):
    claim = next(claim for claim in CLAIMS if claim.check == "comparable")
    assert near(claim, 0.012, (-0.013, 0.037), "").beyond_chance is False
    assert near(claim, 0.001, (-0.013, 0.015), "").beyond_chance is False


def test_top5_errors_of_the_tables_are_claims_of_their_own(make_sample):
    inputs = make_sample(name="imagenet", depths=(34, 50), plain=(), steps=600_000)
    first, second = inputs.members
    members = [first, {**second, "model": "resnet50", "test_err1": 0.30, "test_err5": 0.0671}]
    evaluation = {**inputs.evaluation, "members": members, "run": None, "data": {"protocol": "10-crop"}}
    inputs = dataclasses.replace(inputs, evaluation=evaluation)
    found = outcome(inputs, "imagenet-resnet50-table-3-top5")
    assert (found.status, found.claim.paper) == ("holds", {"resnet50": 6.71})
    assert "reaches 6.71% top-5 error" in found.claim.statement and "(top-5)" in found.evidence
    assert outcome(inputs, "imagenet-resnet50-table-3").status == "fails"
    assert outcome(inputs, "imagenet-resnet50-table-4-top5").status == "not measured"  # at other views
    members[1]["test_err5"] = None
    assert outcome(inputs, "imagenet-resnet50-table-3-top5").status == "not measured"


@pytest.mark.parametrize(
    ("residual", "status", "beyond_chance"),
    [
        (0.2790, "holds", True),
        (0.2860, "holds", False),
        (0.2726, "holds", False),
        (0.2900, "fails", False),
        (0.2000, "fails", True),
        (0.3500, "fails", True),
    ],
)
def test_comparable_nets_are_less_than_the_margin_apart(make_sample, residual, status, beyond_chance):
    inputs = make_sample(name="imagenet", depths=(18, 34), plain=(), steps=600_000)
    plain, deep = ({**net, "test_err1": error} for net, error in zip(inputs.members, (0.2794, residual), strict=True))
    members = [{**plain, "model": "plain18", "residual": False}, {**deep, "model": "resnet18", "depth": 18}]
    inputs = dataclasses.replace(inputs, evaluation={**inputs.evaluation, "members": members, "run": None}, curves=())
    found = outcome(inputs, "imagenet-18-layers-comparable")
    assert (found.status, found.beyond_chance) == (status, beyond_chance)
    assert "at most 1 either way" in found.evidence


def test_a_published_error_is_credited_to_the_nets_own_option_and_stride(make_sample):
    inputs = make_sample(name="imagenet", depths=(34, 50), plain=(), steps=600_000)
    members = [{**net, "model": name} for net, name in zip(inputs.members, ("resnet34C", "resnet50_v1.5"), strict=True)]
    evaluation = {**inputs.evaluation, "members": members, "data": {"protocol": "10-crop"}}
    curves = [
        {**curve, "model": net["model"]} for curve, net in zip(inputs.curves, members, strict=False)
    ]  # of these two alone
    option_c = dataclasses.replace(inputs, evaluation=evaluation, curves=curves)
    for claim in ("imagenet-resnet34-table-3", "imagenet-resnet50-table-3"):
        assert outcome(option_c, claim).status == "not measured"
        assert "So far" not in outcome(option_c, claim).evidence
    members[0]["model"], members[1]["model"] = "resnet34", "resnet50"
    for claim in ("imagenet-resnet34-table-3", "imagenet-resnet50-table-3"):
        assert outcome(option_c, claim).status == "holds"


def test_outcomes_are_json(make_sample):
    assert json.loads(json.dumps([found.to_json() for found in assess(make_sample())], allow_nan=False))


def test_other_systems_are_no_plain_nets(make_sample):
    inputs = make_sample(plain=())
    named = {"vgg13_bn_small": 13, "vgg16_bn_small": 16}
    curves = [
        {**inputs.curves[0], "run_id": model, "model": model, "depth": depth, "residual": False}
        for model, depth in named.items()
    ]
    inputs = dataclasses.replace(inputs, curves=[*inputs.curves, *curves])
    assert outcome(inputs, "cifar10-plain-degrades").status == "not measured"
