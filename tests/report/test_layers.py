from __future__ import annotations

import dataclasses

from pipeline.report.document import Figure
from pipeline.report.layers import layers
from pipeline.report.theme import LIGHT


def figures(inputs):
    return [block for block in layers(inputs) if isinstance(block, Figure)]


def test_each_net_has_a_line_by_layer_and_one_sorted(make_sample):
    inputs = make_sample(depths=(20, 56), plain=())
    responses, gradients = figures(inputs)
    by_layer, by_size = responses.draw(LIGHT).axes
    for axes in (by_layer, by_size):
        assert [line.get_label() for line in axes.lines] == ["ResNet-20", "ResNet-56", "ResNet-110"]
        assert [len(line.get_xdata()) for line in axes.lines] == [19, 55, 109]
    first, sorted_first = by_layer.lines[0].get_ydata(), by_size.lines[0].get_ydata()
    assert list(first) == inputs.responses[0]["std"] and list(sorted_first) == sorted(first, reverse=True)
    assert by_layer.get_yscale() == "linear" and gradients.draw(LIGHT).axes[0].get_yscale() == "log"


def test_a_net_that_responds_far_more_does_not_flatten_the_others(make_sample):
    inputs = make_sample(depths=(20,), plain=())
    loud = {**inputs.responses[0], "model": "plain56", "std": [25.0, *inputs.responses[0]["std"][1:]]}
    inputs = dataclasses.replace(inputs, responses=[loud, *inputs.responses])
    assert {axes.get_yscale() for axes in figures(inputs)[0].draw(LIGHT).axes} == {"log"}


def test_a_net_of_several_seeds_has_one_line_and_plain_nets_are_dashed(make_sample):
    inputs = make_sample(depths=(20,), plain=())
    again = {**inputs.responses[0], "seed": 7}
    plain = {**inputs.responses[0], "model": "plain20", "residual": False}
    inputs = dataclasses.replace(inputs, responses=[again, plain, inputs.responses[0]])
    (axes, _) = figures(inputs)[0].draw(LIGHT).axes
    assert [(line.get_label(), line.is_dashed()) for line in axes.lines] == [("plain-20", True), ("ResNet-20", False)]


def test_without_responses_there_is_a_sentence(make_sample):
    assert not figures(dataclasses.replace(make_sample(), responses=()))
