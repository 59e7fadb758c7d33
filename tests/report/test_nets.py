"""The table and figures of the evaluated nets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pages import is_picture, legend, written
from samples import make_sample, with_nets

from pipeline.report.nets import Bar, by_members, intervals, summary_table
from pipeline.report.theme import LIGHT


@pytest.mark.parametrize("n", [1, 12])
def test_intervals_draw_any_number_of_nets(n):
    bars = [
        Bar("ensemble", 0.04, (0.03, 0.05)),
        *(Bar(f"ResNet-{i}", 0.05, (0.04, 0.06), 20 + 6 * i, "o") for i in range(n)),
    ]
    draw = intervals(bars, [20 + 6 * i for i in range(n)])
    (axes,) = draw(LIGHT).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [bar.label for bar in bars]
    assert is_picture(draw)


def test_the_error_by_members_has_a_place_for_each_number_of_them():
    sizes = [{"size": n, "val_err1": 0.09 / n, "test_err1": 0.1 / n, "ci95": [0.09 / n, 0.11 / n]} for n in (1, 2, 3)]
    (axes,) = by_members(sizes)(LIGHT).axes
    assert axes.get_xticks().tolist() == [1, 2, 3]
    assert axes.lines[0].get_ydata() == pytest.approx([10.0, 5.0, 10 / 3])
    assert legend(axes) == ["test", "validation"]


def test_averages_of_seeds_and_of_depths_have_a_row_a_size_and_the_text_says_which_err_less():
    def average(models, error):
        return {"models": models, "alone": 0.0812, "test_err1": error, "ci95": [error - 0.005, error + 0.005]}

    depths = ["ResNet-20", "ResNet-32"]
    sizes = [
        {
            "size": k,
            "net": "ResNet-20",
            "seeds": average(depths[:1] * k, 0.09),
            "depths": average(depths[:k], 0.1 - 0.01 * k),
        }
        for k in (1, 2)
    ]
    inputs = make_sample()
    text = written(with_nets(inputs, inputs.members, seeds_against_depths=sizes))
    assert "depths err less, by the estimates: 9.00% and 8.00%" in text and "(ResNet-20, ResNet-32)" in text
    assert "| 2 | 9.00% | 8.50 to 9.50% | 8.12% | 8.00% | 7.50 to 8.50% | 8.12% |" in text
    assert "Averages of seeds" not in written(inputs)


def test_a_named_run_that_is_a_member_counts_once():
    inputs = make_sample()
    first = inputs.members[0]
    assert len(inputs.nets) == 5
    assert with_nets(inputs, inputs.members, first).nets == inputs.members
    same_file = replace(first, run_id="other", key="other")
    assert with_nets(inputs, inputs.members, same_file).nets == inputs.members
    assert len(with_nets(inputs, inputs.members, replace(first, snapshot=9)).nets) == 5
    assert "ResNet-20 (named run)" in summary_table(with_nets(inputs, inputs.members, first).evaluation)
