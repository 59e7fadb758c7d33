"""Our results beside the paper's."""

from __future__ import annotations

from dataclasses import replace

from nets import make_model, make_net, make_recipe
from pages import written
from samples import make_sample, with_nets

from pipeline.report.comparison import comparison, differences
from pipeline.report.paper import PROTOCOLS

CIFAR10 = PROTOCOLS["cifar10"]


def test_short_runs_and_other_rates_are_not_sold_as_the_papers():
    quick = make_sample(steps=6_318)
    nets = [replace(quick.nets[0], recipe=make_recipe(lr=0.4)), *quick.nets[1:]]
    first, second, *_ = differences(with_nets(quick, nets), CIFAR10)
    assert first.startswith("Steps: 6,318 here, 64,000 in the paper. The longest run has 9.9% of the paper's.")
    assert "too short to compare" in first
    assert second.startswith("Learning rate: 0.4")
    assert not any(line.startswith("Steps") for line in differences(make_sample(), CIFAR10))


def test_a_net_stands_beside_the_papers_of_the_same_option_alone_and_others_are_named():
    about = {"n": 50_000, "steps": 600_000, "dataset": "imagenet"}
    models = [make_model(34, shortcut="B"), make_model(18, shortcut="B"), make_model(50, stride_on="3x3")]
    nets = [make_net(model.depth, model=model, **about) for model in models]
    text = "\n".join(
        block
        for block in comparison(with_nets(make_sample(name="imagenet"), nets, curves=[]))
        if isinstance(block, str)
    )
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| ResNet-34", "| ResNet-50"))]
    tested = [(row[0], row[1].split(",")[0]) for row in rows if "not evaluated" not in row]
    assert tested == [("| ResNet-34 (B)", "Table 3"), ("| ResNet-34 (B)", "Table 4")]
    assert text.count(" / ") > 2  # top-1 and top-5
    assert "prints no error of such a net: ResNet-18 (B), ResNet-50 (v1.5)." in text


def test_our_error_less_the_papers_stands_beside_both_in_points():
    nets = [make_net(20, error=0.0895), make_net(20, error=0.0925, residual=False)]
    blocks = comparison(with_nets(make_sample(), nets, curves=[]))
    text = "\n".join(block for block in blocks if isinstance(block, str))
    assert "| ResNet-20 | Table 6 | 8.75% | 8.95% | 8.41 to 9.53% | +0.20 | 64,000 (100%) |" in text
    assert "| plain-20 | Fig. 6 † | ≈9.5% | 9.25% | 8.70 to 9.83% | ≈−0.25 | 64,000 (100%) |" in text


def test_the_page_names_nets_that_were_trained_on_all_images():
    inputs = make_sample()
    run = replace(inputs.named_run, val_err1=None, split="full")
    full = with_nets(inputs, inputs.members, run)
    assert "| ResNet-110 (named run), trained on all images | 1.76M |" in written(full)
    first, second = [line for line in differences(full, CIFAR10) if line.startswith("Train")]
    assert first.startswith("Training images: 45,000 here")
    assert second == "Trained on all 50,000 training images, with nothing selected: ResNet-110."
    assert "split holdout; split full: ResNet-110" in written(full)
    alone = with_nets(inputs, [make_net(20, val_err1=None, split="full")])
    assert "ResNet-20 10.00% (trained on all images) on 10,000 test images" in written(alone)
    assert "trained on all images" not in written(inputs)
