"""Every claim is assessed; ensembles, counts, and many claims at once."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from nets import make_net
from samples import make_sample, with_nets
from verdicts import IMAGENET, OF_ANY, OF_NETS, imagenet, measured, outcome, status

from pipeline.evaluation.estimates import Estimate
from pipeline.evaluation.intervals import mcnemar_exact, paired_bootstrap
from pipeline.report.checks import assess
from pipeline.report.claims import BELOW_ZERO, corrected, judged
from pipeline.report.page import training_runs
from pipeline.report.paper import CLAIMS


def with_ensemble(inputs, **changes):
    return with_nets(inputs, inputs.members, inputs.named_run, ensemble={**inputs.ensemble, **changes})


def test_every_claim_has_one_outcome_that_is_json_and_a_command_where_it_is_not_measured():
    for inputs in (make_sample(), make_sample(steps=510)):
        outcomes = assess(inputs)
        assert [result.claim for result in outcomes] == list(CLAIMS)
        assert json.loads(json.dumps([result.to_json() for result in outcomes], allow_nan=False))
        missing = [result.claim for result in outcomes if result.status == "not measured"]
        assert all(bool(claim.command) != (claim.check == "not_public") for claim in missing)
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)


def test_on_another_data_set_only_what_holds_on_any_is_measured():
    inputs = make_sample(name="digits", steps=510)
    assert measured(inputs) == OF_ANY | OF_NETS
    assert "these runs are on digits" in outcome(inputs, "cifar10-plain-degrades").evidence


@pytest.mark.parametrize(
    ("low", "estimate", "high", "p", "expected"),
    [
        (-0.003, -0.002, -0.001, 0.01, "holds"),
        (-0.003, -0.001, 0.001, 0.3, "inconclusive"),
        (-0.001, 0.0, 0.001, 1.0, "inconclusive"),
        (0.0, 0.0, 0.0, 1.0, "inconclusive"),
        (0.001, 0.002, 0.003, 0.01, "fails"),
    ],
)
def test_an_ensembles_gain_is_decided_by_its_interval(low, estimate, high, p, expected):
    gain = {"estimate": estimate, "ci95": [low, high]}
    inputs = with_ensemble(make_sample(), difference_to_best_member=gain, mcnemar_p=p)
    result = outcome(inputs, "ensemble-beats-best-member")
    assert (result.status, result.interval, result.p, result.runs) == (expected, (low, high), p, 4)
    assert ("would settle it (power 0.8)" in result.evidence) == (expected == "inconclusive" and estimate != 0)


def test_an_ensembles_gain_takes_an_exact_test_too():
    """Of 60 images, four that only the best member errs on: the bootstrap's interval ends before zero."""
    only_member = np.arange(60) < 4
    apart, p = paired_bootstrap(np.zeros(60, bool), only_member, 0), mcnemar_exact(np.zeros(60, bool), only_member)
    gain = {"estimate": apart.estimate, "ci95": [apart.low, apart.high]}
    result = outcome(
        with_ensemble(make_sample(), difference_to_best_member=gain, mcnemar_p=p), "ensemble-beats-best-member"
    )
    assert apart.high < 0 and (result.status, result.p) == ("inconclusive", 0.125)
    assert result.evidence.endswith("; p = 0.125")


def test_snapshots_of_one_training_count_as_one():
    net = make_net(20)
    members = [replace(net, snapshot=step) for step in (100, 200)]
    inputs = with_nets(replace(make_sample(), leaderboard=None), members, run=net)
    assert outcome(inputs, "ensemble-beats-best-member").runs == 1
    assert training_runs(inputs)[1] == "1"


def test_an_ensembles_gain_needs_two_members_and_in_top5_many_classes():
    inputs, top5 = make_sample(), "ensemble-beats-best-member-top5"
    for without in (with_ensemble(inputs, size=1), with_nets(inputs, inputs.members, ensemble=None)):
        assert status(without, "ensemble-beats-best-member") == "not measured"
    assert "A top-5 error of 10 classes says little" in outcome(inputs, top5).evidence
    many = replace(inputs, data={**inputs.data, "classes": [str(i) for i in range(100)]})
    nets = [replace(net, test_err5=0.01) for net in many.members]
    gain = {"estimate": -0.005, "ci95": [-0.007, -0.003]}
    ensemble = {**many.ensemble, "test_err5": 0.005, "difference_to_best_member5": gain, "mcnemar_p5": 0.001}
    assert status(with_nets(many, nets, ensemble=ensemble), top5) == "holds"


def test_many_claims_on_the_same_runs_need_more_evidence():
    claim = CLAIMS[0]
    sure, close = (Estimate(-0.02, (-0.02 - half, -0.02 + half), 1000) for half in (0.001, 0.019))
    strong, weak = (judged(claim, estimate, BELOW_ZERO, "") for estimate in (sure, close))
    assert [result.status for result in corrected([weak])] == ["holds"]
    both = corrected([strong, weak, weak])
    assert [result.status for result in both] == ["holds", "inconclusive", "inconclusive"]
    assert "by Holm's correction for 3 such claims" in both[1].evidence and both[1].p_holm == pytest.approx(2 * weak.p)


def test_counts_of_the_nets_are_the_papers():
    results = {name: outcome(make_sample(), name) for name in OF_NETS}
    assert {result.status for result in results.values()} == {"holds"}
    assert "ResNet-152 11.3G" in results["table-1-flops"].evidence
    assert results["bottleneck-projection-doubles"].value == pytest.approx(1.93, abs=0.01)
    assert results["option-c-adds-thirteen"].evidence == "ResNet-34 (B) 3, ResNet-34 (C) 16"
    assert results["plain34-is-a-fifth-of-vgg19"].value == pytest.approx(0.18, abs=0.01)


def test_the_test_servers_error_cannot_be_measured():
    result = outcome(imagenet(make_net(50, **IMAGENET)), "imagenet-ensemble-top5")
    assert result.status == "not measured" and "not public" in result.evidence
