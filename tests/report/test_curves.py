"""Learning curves and layer responses."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from imports import ROOT
from nets import make_model, make_net
from pages import figures, is_picture, legend
from samples import make_curve, make_layers, make_sample, with_nets

from pipeline.report.curves import (
    ERRORS,
    featured,
    layers,
    learning_curves,
    off_plot,
    top_of_axis,
    windows,
    write_curves_csv,
)
from pipeline.report.theme import LIGHT


def drawing(curves, depths):
    best = featured(curves)
    return learning_curves(curves, best, depths, ERRORS, top_of_axis(best))


def rows_of(curves, path):
    write_curves_csv(curves, path)
    with path.open() as file:
        return list(csv.DictReader(file))


def test_dvc_finds_the_template_and_one_value_a_step_in_each_series(tmp_path):
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    shutil.copytree(ROOT / ".dvc" / "plots", tmp_path / ".dvc" / "plots", dirs_exist_ok=True)
    plots = [plot for plot in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"] if "learning curves" in plot]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"plots": plots}))
    (tmp_path / "experiments" / "digits").mkdir(parents=True)
    (tmp_path / "params.yaml").write_text("data: digits")
    rows_of(make_sample().curves, tmp_path / "experiments" / "digits" / "curves.csv")
    dvc = [sys.executable, "-m", "dvc", "plots", "show", "--show-vega", "learning curves"]
    done = subprocess.run(dvc, cwd=tmp_path, capture_output=True, text=True, check=True)
    drawn = json.loads(done.stdout)
    assert drawn["encoding"]["y"]["field"] == "validation error"
    series = drawn["encoding"]["color"]["field"]
    places = [(point[series], point["step"]) for point in drawn["data"]["values"]]
    assert {"ResNet-20", "plain-56"} < {name for name, _ in places}
    assert len(places) == len(set(places))


def test_csv_holds_a_nets_finite_validation_errors_in_order(tmp_path):
    curve = replace(make_curve(make_net()), points={"val/err1": [[20, 0.5], [10, 0.75], [30, math.nan]]})
    assert rows_of([curve], tmp_path / "curves.csv") == [
        {"net": "ResNet-20", "run": curve.net.key, "step": "10", "validation error": "0.75"},
        {"net": "ResNet-20", "run": curve.net.key, "step": "20", "validation error": "0.5"},
    ]


def test_the_best_run_of_a_net_is_featured():
    good, bad = make_curve(make_net(), 0.08), make_curve(make_net(seed=1), 0.09)
    plain = make_curve(make_net(residual=False), 0.1)
    vgg = make_curve(make_net(model=make_model(16, False, "vgg_bn_small")), 0.1)
    assert featured([bad, good, vgg, plain]) == [plain, good, vgg] and featured([]) == []
    full = replace(good, points={"train/err1": [[1, 0.5], [2, 0.01]]})
    started = make_curve(make_net(start="net.pth"), 0.01)
    assert featured([full, started, bad]) == [
        bad
    ]  # neither speaks for a net that has a plain run with a validation curve
    assert full.last_error == 0.01 and replace(good, points={"train/loss": [[1, 0.5]]}).last_error is None


def test_windows_keep_the_mean():
    values = [(i, float(i % 7)) for i in range(1000)]
    short = windows(values, 100)
    assert len(short) == 100
    assert sum(v for _, v in short) / 100 == pytest.approx(sum(v for _, v in values) / 1000)
    assert windows(values[:5], 100) == values[:5]


def test_a_net_that_did_not_learn_leaves_the_plot_and_one_that_learns_late_is_seen():
    curves = [make_curve(make_net(depth, residual=False), 0.1) for depth in (20, 32, 44)]
    stuck = make_curve(make_net(110, residual=False), 0.62)
    assert top_of_axis([*curves, stuck]) < 0.62
    assert off_plot([*curves, stuck]) == [stuck] and off_plot(curves) == []
    (axes,) = drawing([*curves, stuck], [20, 32, 44, 110])(LIGHT).axes
    assert legend(axes) == ["plain-20", "plain-32", "plain-44", "plain-110 ↑", "train"]
    curves = [make_curve(make_net(depth, residual=False, steps=8_000), 0.15) for depth in (20, 32, 44)]
    late = replace(curves[0], points={"val/err1": [[400 * k, 0.9 - 0.016 * k] for k in range(1, 21)]})
    assert top_of_axis([*curves, late]) == pytest.approx(0.9 - 0.016 * 5)  # three quarters of the training


def test_learning_curves_are_the_papers_figure():
    inputs = make_sample()
    left, right = drawing(inputs.curves, inputs.depths)(LIGHT).axes
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("plain", "residual")
    assert left.get_xlabel() == "steps" and right.get_xlim() == pytest.approx((0, 1.02 * 64_000))
    assert right.xaxis.get_major_formatter()(20_000, 0) == "20,000"  # as the tables have it
    assert left.get_ylim() == right.get_ylim()
    assert legend(right) == ["ResNet-20", "ResNet-32", "ResNet-44", "ResNet-56", "train"]
    bold = [line for line in right.lines if line.get_linewidth() > 2]
    dashed = [line for line in right.lines if line.is_dashed() and len(line.get_xdata())]
    assert len(bold) == len(dashed) == 4
    assert {line.get_color() for line in bold} == {line.get_color() for line in dashed}
    vgg = make_curve(make_net(model=make_model(16, False, "vgg_bn_small"), steps=1000), 0.1)
    (short,) = drawing([vgg], [16])(LIGHT).axes
    assert short.get_xlabel() == "steps" and short.get_title(loc="left") == "others"


def test_curves_of_any_number_and_of_a_diverged_run_draw():
    curves = [make_curve(make_net(8 + 6 * i, steps=6_000), 0.2 - 0.005 * i) for i in range(20)]
    assert is_picture(drawing(curves, [8 + 6 * i for i in range(20)]))
    diverged = replace(curves[0], points={"val/err1": [[1, 0.5], [2, None], [3, math.nan]], "train/err1": []})
    assert diverged.series("val/err1") == [(1, 0.5)] and is_picture(drawing([diverged], [8]))


def layer_axes(*entries):
    """Axes of the responses' figure, for (net, std)."""
    inputs = with_nets(make_sample(), [], others=[net for net, _ in entries])
    inputs = replace(inputs, responses=[make_layers(net, std) for net, std in entries])
    return figures(layers(inputs))[0].draw(LIGHT).axes


def test_each_net_has_a_line_by_layer_and_one_sorted():
    inputs = make_sample(depths=(20, 56), plain=())
    responses, gradients = figures(layers(inputs))
    by_layer, by_size = responses.draw(LIGHT).axes
    for axes in (by_layer, by_size):
        assert [line.get_label() for line in axes.lines] == ["ResNet-20", "ResNet-56", "ResNet-110"]
        assert [len(line.get_xdata()) for line in axes.lines] == [19, 55, 109]
    first, largest_first = by_layer.lines[0].get_ydata(), by_size.lines[0].get_ydata()
    assert list(first) == inputs.responses[0]["std"] and list(largest_first) == sorted(first, reverse=True)
    assert by_layer.get_yscale() == "linear" and gradients.draw(LIGHT).axes[0].get_yscale() == "log"


def test_a_net_has_one_line_of_its_plain_training_and_nets_without_shortcuts_are_dashed():
    net, plain = make_net(20), make_net(20, residual=False)
    entries = [
        (make_net(20, seed=7), [3.0] * 19),
        (plain, [2.0] * 19),
        (make_net(20, start="net.pth", run_id="s", key="s"), [9.0] * 19),
        (net, [1.0] * 19),
    ]
    axes, _ = layer_axes(*entries)
    assert [(line.get_label(), line.is_dashed()) for line in axes.lines] == [("plain-20", True), ("ResNet-20", False)]
    assert axes.lines[1].get_ydata()[0] == 1.0
    assert {axes.get_yscale() for axes in layer_axes((net, [1.0] * 19), (plain, [25.0, *[1.0] * 18]))} == {"log"}
