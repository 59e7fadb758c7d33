"""The table and figures of the evaluated nets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pages import is_picture
from samples import make_sample, with_nets

from pipeline.report.nets import Bar, intervals, summary_table
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


def test_a_named_run_that_is_a_member_counts_once():
    inputs = make_sample()
    first = inputs.members[0]
    assert len(inputs.nets) == 5
    assert with_nets(inputs, inputs.members, first).nets == inputs.members
    same_file = replace(first, run_id="other", key="other")
    assert with_nets(inputs, inputs.members, same_file).nets == inputs.members
    assert len(with_nets(inputs, inputs.members, replace(first, snapshot=9)).nets) == 5
    assert "ResNet-20 (named run)" in summary_table(with_nets(inputs, inputs.members, first).evaluation)
