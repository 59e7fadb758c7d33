"""What averaging gains, on the page and in the claim."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pages import legend, texts, written
from samples import make_sample, unvalidated, with_nets
from verdicts import outcome, status

from pipeline.report.gain import averaging, by_members, gain
from pipeline.report.theme import LIGHT

CLAIM = "ensemble-beats-best-member"


def test_an_ensemble_without_validation_errors_stands_beside_each_member():
    inputs = unvalidated(make_sample())
    text = texts(gain(inputs))
    assert text.count("| ResNet-") == len(inputs.members) == 4
    assert "8.95% | −2.23 | −2.53 to −1.93 | 0.012 | 0.36% | −0.20 | −0.50 to +0.10 | 0.500 |" in text
    page = written(inputs)
    assert "Best member" not in page and "7.91 to 8.95%" in page
    earlier = with_nets(inputs, inputs.members, ensemble={**inputs.ensemble, "against_members": []})
    assert "`pipeline evaluate`" in texts(gain(earlier)).replace("\\", "")
    assert status(earlier, CLAIM) == "not measured"


def test_it_gains_only_if_it_errs_less_than_the_member_that_is_hardest_to_beat():
    inputs = unvalidated(make_sample())
    result = outcome(inputs, CLAIM)
    assert result.status == "holds" and "hardest to beat is ResNet-56 7.91%" in result.evidence
    assert result.interval == (result.value - 0.003, result.value + 0.003)
    against = [dict(comparison) for _, comparison in inputs.against_members]
    against[2]["difference"] = {"estimate": 0.004, "ci95": [0.001, 0.007]}
    beaten = with_nets(inputs, inputs.members, ensemble={**inputs.ensemble, "against_members": against})
    result = outcome(beaten, CLAIM)
    assert result.status == "fails" and "ResNet-44" in result.evidence
    assert result.value == 0.004
    # Of all members that err more by estimate, the one that the ensemble beats least surely.
    against[2]["difference"] = {"estimate": -0.013, "ci95": [-0.026, 0.0]}
    against[2]["mcnemar_p"] = 0.06
    unsure = with_nets(inputs, inputs.members, ensemble={**inputs.ensemble, "against_members": against})
    result = outcome(unsure, CLAIM)
    assert result.value < max(each["difference"]["estimate"] for each in against)
    assert (result.status, result.value, result.p) == ("inconclusive", -0.013, 0.06)
    earlier = [{key: value for key, value in each.items() if "mcnemar" not in key} for each in against]
    result = outcome(with_nets(inputs, inputs.members, ensemble={**inputs.ensemble, "against_members": earlier}), CLAIM)
    assert (result.status, result.value) == ("inconclusive", -0.013)


def test_the_error_by_members_has_a_place_for_each_number_of_them():
    sizes = [{"size": n, "val_err1": 0.09 / n, "test_err1": 0.1 / n, "ci95": [0.09 / n, 0.11 / n]} for n in (1, 2, 3)]
    (axes,) = by_members(sizes)(LIGHT).axes
    assert axes.get_xticks().tolist() == [1, 2, 3]
    assert axes.lines[0].get_ydata() == pytest.approx([10.0, 5.0, 10 / 3])
    assert legend(axes) == ["test", "validation"]
    both = [{**size, "test_err5": size["test_err1"] / 5, "ci95_err5": [0.0, 0.1]} for size in sizes]
    first, second = by_members(both, top5=True)(LIGHT).axes
    assert first.get_ylabel() == "top-1 error (%)" and second.lines[0].get_ydata() == pytest.approx([2.0, 1.0, 2 / 3])


def test_averages_of_seeds_and_of_depths_have_a_row_a_size_and_the_text_says_which_err_less():
    def average(models, error):
        return {
            "models": models,
            "alone": 0.0812 + 0.02 * (models[-1] == "ResNet-20"),
            "test_err1": error,
            "ci95": [error - 0.005, error + 0.005],
        }

    depths = ["ResNet-20", "ResNet-32"]
    sizes = [
        {
            "size": k,
            "net": "ResNet-20",
            "seeds": average(depths[:1] * k, 0.09),
            "depths": average(depths[:k], 0.1 - 0.01 * k),
            "depths_minus_seeds": {"estimate": -0.01, "ci95": [-0.015, -0.005]},
        }
        for k in (1, 2)
    ]
    inputs = make_sample()
    text = written(with_nets(inputs, inputs.members, seeds_against_depths=sizes))
    assert "At 2 nets, seeds err 9.00% and depths 8.00%; the difference is −1.00 points" in text
    assert (
        "−1.50 to −0.50, which excludes zero), over images." in text
        and "(ResNet-20, ResNet-32), trained by the same recipe." in text
    )
    assert "Averaging itself changes the mean error of the single nets by −1.12 points with seeds and by −0.12" in text
    assert "| 2 | 9.00% | 8.50 to 9.50% | 10.12% | 8.00% | 7.50 to 8.50% | 8.12% |" in text
    assert "Averages of seeds" not in written(inputs)


def test_top5_is_reported_where_there_are_many_classes():
    few = make_sample()
    many = replace(few, data={**few.data, "classes": [str(i) for i in range(100)]})
    five = {"difference_to_best_member5": {"estimate": -0.021, "ci95": [-0.03, -0.012]}, "mcnemar_p5": 0.0001}
    sizes = [{**size, "test_err5": 0.01, "ci95_err5": [0.005, 0.015]} for size in few.ensemble["by_size"]]
    ensemble = {**few.ensemble, **five, "by_size": sizes}
    text = written(with_nets(many, many.members, ensemble=ensemble))
    assert "In top-5 error it is **−2.10 points** (95% interval −3.00 to −1.20, which excludes zero" in text
    assert "Ensemble, top-5 test error" in text and "Ensemble, top-5" not in written(few)


def test_other_ways_to_choose_stand_in_a_table():
    way = {"selection": "one_net", "temperature": "validation", "members": ["ResNet-20"] * 2, "val_err1": 0.06}
    errors = {"test_err1": 0.07, "ci95": [0.065, 0.075], "test_err5": 0.01, "ci95_err5": [0.008, 0.012]}
    inputs = make_sample()
    text = texts(averaging(with_nets(inputs, inputs.members, alternatives=[{**way, **errors}])))
    assert "| one net | fitted | ResNet-20, ResNet-20 | 6.00% | 7.00% | 6.50 to 7.50% |" in text
    assert "Other ways" not in texts(averaging(inputs))
