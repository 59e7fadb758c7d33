"""Error against cost, and transfer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import make_model, make_net
from pages import figures, is_picture, legend, texts
from samples import make_sample, with_nets

from pipeline.report.cost import error_against_cost, paired, transfer
from pipeline.report.theme import DARK, LIGHT


def costed(depth, macs, error, **changes):
    about = {"macs": int(macs), "params": int(macs / 100), "error": error, "run_id": f"{depth}{macs}{error}"}
    return make_net(depth, **{**about, "key": "", "checkpoint_sha256": "", **changes})


NETS = (
    costed(20, 40e6, 0.09),
    costed(20, 40e6, 0.10, residual=False),
    costed(56, 125e6, 0.08),
    costed(56, 125e6, 0.07, seed=1),
    costed(56, 125e6, 0.12, residual=False),
    costed(16, 313e6, 0.075, model=make_model(16, False, "vgg_bn_small")),
)


def cost(*nets):
    return error_against_cost(with_nets(make_sample(), [], others=nets, ensemble=None))


def test_each_training_is_a_point_whose_area_is_its_parameters_and_runs_share_a_legend_entry():
    figure = figures(cost(*NETS))[0].draw(LIGHT)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    drawn = sorted(tuple(place) for marks in axes.collections for place in marks.get_offsets())
    np.testing.assert_allclose(drawn, sorted((net.macs, 100 * net.test_err1) for net in NETS))
    names = ["ResNet-20", "plain-20", "ResNet-56", "plain-56", "VGG-16 (BN, small)"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    sizes = {name: marks.get_sizes()[0] for name, marks in zip(names, axes.collections, strict=True)}
    assert sizes["ResNet-56"] / sizes["ResNet-20"] == pytest.approx(125 / 40)
    assert sizes["VGG-16 (BN, small)"] / sizes["plain-20"] == pytest.approx(313 / 40)


def test_nets_that_cost_and_err_more_stand_beside_the_best_that_do_not():
    text = texts(cost(*NETS))
    assert "| plain-56 | 125M | 12.00% | ResNet-20 | 40M | 9.00% | 64,000 |" in text and "| VGG" not in text
    worse = texts(cost(*NETS[:-1], replace(NETS[-1], test_err1=0.076)))
    assert "| VGG-16 (BN, small) | 313M | 7.60% | ResNet-56 | 125M | 7.50% |" in worse  # the mean of two


@pytest.mark.parametrize("change", [{"steps": 1000}, {"steps": 0, "recipe": None}, {"start": "w"}, {"num_train": 500}])
def test_only_nets_trained_for_as_long_from_random_weights_on_all_images_are_compared(change):
    blocks = cost(*NETS[:3], replace(NETS[4], **change))
    assert "none costs more and errs more" in texts(blocks)
    assert ("plain-56" in figures(blocks)[0].alt) == ("steps" in change)


def test_nets_without_counts_are_named_and_one_net_is_no_picture():
    blocks = cost(*NETS[:3], replace(NETS[4], macs=0))
    assert "did not count the multiply-adds of plain-56" in texts(blocks) and "plain-56" not in figures(blocks)[0].alt
    for nets, start in ((NETS[:1], "Only ResNet-20"), (NETS[2:4], "Only ResNet-56"), ((), "No net")):
        assert texts(cost(*nets)).startswith(start) and not figures(cost(*nets))


@pytest.mark.parametrize("macs", [(40e6, 40e6), (1.79e9, 1.81e9), (4e5, 2.8e9)])
def test_nets_of_any_cost_are_drawn(macs):
    (figure, *_) = figures(cost(costed(20, macs[0], 0.09), costed(20, macs[1], 0.1, residual=False)))
    assert is_picture(figure.draw, DARK)


def started(*changes):
    """ResNet-20 on 500 images and on all 45,000, from random weights and from others, frozen or not."""
    nets = [
        make_net(
            20, error=error, num_train=images, start=start, run_id=f"{images}{start}", key="", checkpoint_sha256=""
        )
        for images, start, error in (
            (500, "", 0.5),
            (500, "net.pth, frozen", 0.3),
            (500, "net.pth", 0.25),
            (0, "", 0.09),
            (0, "net.pth", 0.085),
            (2000, "net.pth", 0.2),
        )
    ]
    return with_nets(make_sample(depths=(20,)), nets[:1], others=[*nets[1:], *changes])


def test_each_transferred_net_stands_beside_one_of_the_same_budget():
    pairs = [(pair.started.start, pair.images, pair.scratch.test_err1) for pair in paired(started())]
    assert pairs == [("net.pth", 500, 0.5), ("net.pth", 45_000, 0.09), ("net.pth, frozen", 500, 0.5)]
    worse = make_net(20, error=0.01, num_train=500, start="net.pth", run_id="twin", key="", val_err1=0.9)
    assert paired(started(worse))[0].started.test_err1 == 0.25  # the one that validates best
    blocks = transfer(started())
    assert "| ResNet-20 | net.pth, frozen | 500 |" in texts(blocks) and "−20.00 (" in texts(blocks)
    (axes,) = figures(blocks)[0].draw(LIGHT).axes
    assert legend(axes) == [
        "ResNet-20 from net.pth",
        "ResNet-20 from net.pth, frozen",
        "ResNet-20 from random weights",
    ]
    assert axes.get_xscale() == "log"


def test_trainings_from_other_weights_of_one_name_stand_apart():
    about = {"num_train": 500, "start": "net.pth", "key": "", "checkpoint_sha256": ""}
    other = make_net(20, error=0.2, started="c0ffee", run_id="other", **about)
    inputs = started(other)
    pairs = [(pair.started.started, pair.images, pair.started.test_err1) for pair in paired(inputs)]
    assert ("", 500, 0.25) in pairs and ("c0ffee", 500, 0.2) in pairs and len(pairs) == 4
    (axes,) = figures(transfer(inputs))[0].draw(LIGHT).axes
    assert legend(axes).count("ResNet-20 from net.pth") == 2


def test_a_training_of_another_length_is_no_counterpart():
    inputs = started()
    nets = [replace(net, steps=net.steps + bool(net.start)) for net in inputs.nets]
    (block,) = transfer(with_nets(inputs, nets))
    assert "sweep=transfer" in block
