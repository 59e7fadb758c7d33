"""The paragraph that says in plain words what was found."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import make_sample, unvalidated, with_nets

from pipeline.report.checks import assess
from pipeline.report.findings import findings
from pipeline.report.inputs import ReportInputs


def told(inputs: ReportInputs) -> str:
    return str(*findings(inputs, assess(inputs)))


def changed(inputs: ReportInputs, **ensemble: object) -> ReportInputs:
    return replace(inputs, evaluation={**inputs.evaluation, "ensemble": {**inputs.ensemble, **ensemble}})


def test_it_counts_mistakes_and_names_the_most_frequent_one():
    inputs = make_sample()
    text = told(inputs)
    assert text.startswith(
        "The average of 4 nets names 672 (6.72%) of 10,000 test images wrongly; the best of them alone, ResNet-56, 791 (7.91%)."
    )
    worst = max(
        ((n, i, j) for i, row in enumerate(inputs.evaluation["confusion"]) for j, n in enumerate(row) if i != j)
    )
    names = inputs.data["classes"]
    assert f"to take {names[worst[1]]} for {names[worst[2]]} ({worst[0]} times)." in text
    near = [
        o
        for o in assess(inputs)
        if o.claim.dataset in ("cifar10", "") and (o.runs is not None or o.status == "not measured")
    ]
    assert f"that trainings on this data set can test, {sum(o.status == 'holds' for o in near)} hold here" in text


def test_what_only_a_test_server_can_measure_is_no_claim_that_trainings_can_test():
    inputs = make_sample(name="imagenet", depths=(18, 34), plain=())
    outcomes = [o for o in assess(inputs) if o.claim.dataset in ("imagenet", "") and o.claim.check != "not_public"]
    near = [o for o in outcomes if o.runs is not None or o.status == "not measured"]
    near = [o for o in near if o.claim.metric != "top5"]  # the sample has ten classes
    missing = sum(o.status == "not measured" for o in near)
    text = told(inputs)
    assert f"Of the paper's {len(near)} claims" in text and f"and {missing} were not measured." in text
    digits = told(make_sample(name="digits", depths=(20, 56), plain=()))
    assert (
        "Of the paper's 1 claim that trainings on this data set can test, 1 holds here, 0 fail, 0 stay open" in digits
    )


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (-0.02, -0.001, "Averaging helps by more than chance explains."),
        (-0.02, 0.001, "The difference may be chance."),
        (0.001, 0.02, "Averaging harms by more than chance explains."),
    ],
)
def test_the_interval_decides_whether_averaging_helps(low, high, sentence):
    gain = {"estimate": (low + high) / 2, "ci95": [low, high]}
    assert sentence in told(changed(make_sample(), difference_to_best_member=gain))


def test_the_paragraph_and_the_claim_agree_where_top5_is_tested_too():
    """0.03 alone is beyond chance; as one of two claims, of which the other shows nothing, it is not."""
    many = make_sample()
    many = replace(many, data={**many.data, "classes": [str(label) for label in range(100)]})
    many = with_nets(many, [replace(net, test_err5=0.01) for net in many.members], many.named_run)
    close, nothing = ({"estimate": e, "ci95": [e - 0.009, e + 0.009]} for e in (-0.01, -0.002))
    differences = {"difference_to_best_member": close, "difference_to_best_member5": nothing}
    text = told(changed(many, test_err5=0.008, mcnemar_p=0.03, mcnemar_p5=0.7, **differences))
    assert "The difference may be chance." in text


@pytest.mark.parametrize(
    ("sure", "words"), [(0.933, "right, as it should be."), (0.99, "too sure of itself."), (0.8, "could be surer.")]
)
def test_confidence_is_compared_with_accuracy(sure, words):
    inputs = make_sample()
    calibration = {**inputs.evaluation["calibration"], "confidence": sure}
    text = told(replace(inputs, evaluation={**inputs.evaluation, "calibration": calibration}))
    assert f"On average the ensemble is {100 * sure:.1f}% sure and 93.3% right" in text and words in text


def test_without_an_ensemble_or_a_best_member_it_says_less():
    inputs = make_sample()
    assert told(with_nets(inputs, [], inputs.named_run, ensemble=None)).startswith(
        "ResNet-110 names 655 (6.55%) of 10,000"
    )
    assert "the best of them" not in told(unvalidated(inputs))
    assert findings(with_nets(inputs, [], ensemble=None), []) == []
