from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from pipeline.report.cost import error_against_cost
from pipeline.report.document import Figure, Table
from pipeline.report.theme import DARK, LIGHT, render


def evaluated(inputs, *nets):
    """Inputs with these nets alone; each a change of the first member."""
    made = [{**inputs.members[0], "run_id": f"{i}", "checkpoint_sha256": f"{i}", **net} for i, net in enumerate(nets)]
    return dataclasses.replace(inputs, evaluation={"members": [], "ensemble": None, "run": None, "others": made})


def net(model: str, depth: int, macs: float, error: float, **facts):
    interval = [error - 0.005, error + 0.005]
    known = {"model": model, "depth": depth, "residual": model.startswith("resnet"), "macs": int(macs)}
    return {**known, "params": int(macs / 100), "test_err1": error, "ci95": interval, **facts}


NETS = (
    net("resnet20", 20, 40e6, 0.09),
    net("plain20", 20, 40e6, 0.10),
    net("resnet56", 56, 125e6, 0.08, seed=0),
    net("resnet56", 56, 125e6, 0.07, seed=1),
    net("plain56", 56, 125e6, 0.12),
    net("vgg16_bn_small", 16, 313e6, 0.075),
)


def figure(inputs) -> Figure:
    (found,) = [block for block in error_against_cost(inputs) if isinstance(block, Figure)]
    return found


def rows(inputs) -> list[list[str]]:
    return [list(row) for block in error_against_cost(inputs) if isinstance(block, Table) for row in block.rows]


def words(inputs) -> str:
    return " ".join(str(getattr(block, "text", "")) for block in error_against_cost(inputs))


def test_each_training_is_a_point_whose_area_is_its_parameters(make_sample):
    (axes,) = figure(evaluated(make_sample(), *NETS)).draw(LIGHT).axes
    assert axes.get_xscale() == "log"
    residual, plain, others = axes.collections
    drawn = sorted(tuple(place) for marks in axes.collections for place in marks.get_offsets())
    np.testing.assert_allclose(drawn, sorted((net["macs"], 100 * net["test_err1"]) for net in NETS))
    assert list(residual.get_sizes() / residual.get_sizes()[0]) == pytest.approx([1, 125 / 40, 125 / 40])
    assert others.get_sizes()[0] / plain.get_sizes()[0] == pytest.approx(313 / 40)
    colours = {tuple(marks.get_edgecolors()[0]) for marks in axes.collections}
    assert len(colours) == 3 and [text.get_text() for text in axes.get_legend().get_texts()] == [
        "residual",
        "plain",
        "others",
    ]


def test_runs_of_a_net_share_one_name(make_sample):
    (axes,) = figure(evaluated(make_sample(), *NETS)).draw(LIGHT).axes
    names = sorted(text.get_text() for text in axes.texts if text.get_text())
    assert names == ["ResNet-20", "ResNet-56", "VGG-16 (BN)", "plain-20", "plain-56"]


def test_names_cover_neither_each_other_nor_marks_nor_intervals(make_sample):
    crowd = [net(f"resnet{d}", d, 2.3e6 * d, 0.08 + 0.001 * (d % 3)) for d in (20, 26, 32, 38, 44, 50)]
    drawn = figure(evaluated(make_sample(), *NETS, *crowd)).draw(LIGHT)
    drawn.draw_without_rendering()
    (axes,) = drawn.axes
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    bars = [line.get_window_extent() for line in axes.lines if len(line.get_xdata()) == 2]
    assert len(bars) == len(NETS) + len(crowd)
    assert not any(box.overlaps(bar) for box in boxes for bar in bars)
    centres = [marks.get_offset_transform().transform(marks.get_offsets()) for marks in axes.collections]
    assert not any(box.contains(*centre) for box in boxes for group in centres for centre in group)


def test_nets_that_cost_and_err_more_are_told_beside_the_best_that_do_not(make_sample):
    told = rows(evaluated(make_sample(), *NETS))
    assert told == [
        ["plain-56", "125M", "12.00%", "ResNet-20", "40M", "9.00%", "64,000"],
    ]
    worse = evaluated(make_sample(), *NETS[:-1], net("vgg16_bn_small", 16, 313e6, 0.076))
    assert rows(worse)[-1][:5] == ["VGG-16 (BN)", "313M", "7.60%", "ResNet-56", "125M"]  # 7.5%, the mean of two


def test_only_nets_trained_for_as_long_are_compared(make_sample):
    inputs = evaluated(make_sample(), NETS[0], {**NETS[4], "steps": 1000})
    assert rows(inputs) == [] and "none costs more and errs more" in words(inputs)


def test_nets_that_began_from_given_weights_or_on_fewer_images_are_left_out(make_sample):
    inputs = evaluated(make_sample(), *NETS[:2], {**NETS[4], "start": "w"}, {**NETS[5], "num_train": 500})
    assert rows(inputs) == [] and figure(inputs).alt.endswith("ResNet-20 9.00% at 40M, plain-20 10.00% at 40M")


def test_a_net_made_elsewhere_is_drawn_and_not_compared(make_sample):
    elsewhere = {"steps": 0, "lr": None, "seed": None}
    inputs = evaluated(make_sample(), *({**net, **elsewhere} for net in (NETS[0], NETS[4])))
    assert "plain-56" in figure(inputs).alt and rows(inputs) == []


def test_a_net_whose_multiply_adds_were_not_counted_is_left_out_and_named(make_sample):
    inputs = evaluated(make_sample(), *NETS)
    assert "did not count" not in words(inputs)
    del inputs.evaluation["others"][4]["macs"]
    assert "did not count the multiply-adds of plain-56" in words(inputs)
    assert "plain-56" not in figure(inputs).alt and rows(inputs) == []


@pytest.mark.parametrize(
    ("nets", "said"), [((NETS[0],), "Only ResNet-20"), (NETS[2:4], "Only ResNet-56"), ((), "No net")]
)
def test_one_net_is_no_picture(make_sample, nets, said):
    (block,) = error_against_cost(evaluated(make_sample(), *nets))
    assert block.text.startswith(said)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
@pytest.mark.parametrize("macs", [(40e6, 40e6), (1.79e9, 1.81e9), (4e5, 2.8e9)])
def test_nets_of_any_cost_are_drawn(make_sample, theme, macs):
    inputs = evaluated(make_sample(), net("resnet20", 20, macs[0], 0.09), net("plain20", 20, macs[1], 0.1))
    assert render(figure(inputs).draw, theme).startswith(b"\x89PNG")
