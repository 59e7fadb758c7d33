from __future__ import annotations

import dataclasses

from pipeline.report.diversity import diversity


def average(models, error):
    return {"models": models, "alone": 0.0812, "test_err1": error, "ci95": [error - 0.005, error + 0.005]}


def told(inputs, sizes):
    return diversity(dataclasses.replace(inputs, evaluation={**inputs.evaluation, "seeds_against_depths": sizes}))


def test_both_averages_have_a_row_a_size_and_the_text_says_which_err_less(make_sample):
    sizes = [
        {
            "size": k,
            "net": "resnet20",
            "seeds": average(["resnet20"] * k, 0.09),
            "depths": average(["resnet20", "resnet32"][:k], 0.09 - 0.01 * (k - 1)),
        }
        for k in (1, 2)
    ]
    lead, table = told(make_sample(), sizes)
    assert "depths err less, by the estimates: 9.00% and 8.00%" in lead.text and "(ResNet-20, ResNet-32)" in lead.text
    assert [row[0] for row in table.rows] == ["1", "2"]
    assert table.rows[1][1:] == ["9.00%", "8.50 to 9.50%", "8.12%", "8.00%", "7.50 to 8.50%", "8.12%"]


def test_without_two_averages_and_in_older_results_nothing_is_said(make_sample):
    assert told(make_sample(), []) == diversity(make_sample()) == []
