"""The table and figures of the evaluated nets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nets import make_net, make_recipe
from pages import is_picture
from samples import make_sample, with_nets

from pipeline.report.nets import Bar, differing, intervals, row_name, summary_table
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


def test_nets_of_one_name_are_told_apart_by_their_recipes():
    first, *rest = make_sample().members
    decays = make_net(20, key="d", recipe=make_recipe(decay_norm=True, weight_decay=4e-4))
    longer = make_net(20, key="l", recipe=make_recipe(milestones=[1, 2], max_steps=90_000, lr=0.2))
    assert differing(decays, [first, decays, *rest]) == " (weight_decay=0.0004, decay_norm=true)"
    assert differing(first, [first, decays, *rest]) == " (weight_decay=0.0001, decay_norm=false)"
    assert differing(longer, [first, longer]) == differing(rest[0], [first, decays, *rest]) == ""
    many = make_recipe(decay_norm=True, nesterov=True, momentum=0.8, batch_size=64)
    assert differing(make_net(20, recipe=many), [first]).endswith(", ...)")
    assert row_name(decays, [first, decays], decays) == "ResNet-20 (weight_decay=0.0004, decay_norm=true) (named run)"
