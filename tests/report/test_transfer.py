from __future__ import annotations

import dataclasses

import pytest

from pipeline.report.inputs import ReportInputs
from pipeline.report.markdown import to_markdown
from pipeline.report.page import compose
from pipeline.report.theme import LIGHT, render
from pipeline.report.transfer import paired, transfer


@pytest.fixture
def inputs(make_sample) -> ReportInputs:
    """Of 20 layers, on 500 images and on all 45,000, from random weights and from others, frozen or not."""
    sample = make_sample(depths=(20,))
    nets = [
        {
            **sample.members[0],
            "run_id": f"{images}{start}",
            "num_train": images,
            "start": start,
            "test_err1": error,
            "ci95": [error - 0.01, error + 0.01],
        }
        for images, start, error in (
            (500, "", 0.5),
            (500, "net.pth, frozen", 0.3),
            (500, "net.pth", 0.25),
            (0, "", 0.09),
            (0, "net.pth", 0.085),
            (2000, "net.pth", 0.2),
        )
    ]
    evaluation = {**sample.evaluation, "members": nets[:1], "run": None, "others": nets[1:]}
    return dataclasses.replace(sample, evaluation=evaluation)


def test_each_transferred_net_stands_beside_one_of_the_same_budget(inputs):
    pairs = [(pair.started["start"], pair.images, pair.scratch["test_err1"]) for pair in paired(inputs)]
    assert pairs == [("net.pth", 500, 0.5), ("net.pth", 45_000, 0.09), ("net.pth, frozen", 500, 0.5)]


def test_other_lengths_are_no_counterpart(inputs):
    for net in inputs.nets:
        net["steps"] += 1 if net["start"] else 0
    assert paired(inputs) == []
    (said,) = transfer(inputs)
    assert "sweep=transfer" in said.text


def test_of_several_runs_the_one_that_validates_best_speaks(inputs):
    worse = {**inputs.nets[2], "run_id": "twin", "val_err1": 0.9, "test_err1": 0.01}
    evaluation = {**inputs.evaluation, "others": [worse, *inputs.evaluation["others"]]}
    more = dataclasses.replace(inputs, evaluation=evaluation)
    assert paired(more)[0].started["test_err1"] == 0.25


def test_the_page_tells_differences_and_draws_them(inputs):
    text = to_markdown(compose(inputs, []))
    assert "| ResNet-20 | net.pth, frozen | 500 |" in text and "−20.00 (" in text
    assert "| ResNet-20 (500 images, from net.pth, frozen) |" in text  # among the nets
    (figure,) = [block for block in transfer(inputs) if hasattr(block, "draw")]
    assert render(figure.draw, LIGHT).startswith(b"\x89PNG")


def test_transferred_nets_speak_for_no_claim(inputs):
    from pipeline.report.trained import trainings

    assert [training.value for training in trainings(inputs, "test")] == [0.09]


def test_of_responses_the_papers_kind_of_training_is_shown(inputs):
    layers = {"model": "resnet20", "depth": 20, "residual": True, "seed": 0, "key": "", "gradient": [1.0]}
    responses = [{**layers, "run_id": "500net.pth", "std": [9.0]}, {**layers, "run_id": "0", "std": [1.0]}]
    text = to_markdown(compose(dataclasses.replace(inputs, responses=responses), []))
    assert "Mean over the layers: ResNet-20 1.00." in text
