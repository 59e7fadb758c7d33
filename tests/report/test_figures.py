"""Pictures by what they show: axes, series, legends."""

from __future__ import annotations

import csv
import itertools
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml
from imports import ROOT
from nets import make_model, make_net
from samples import make_curve, make_layers, make_sample, with_nets

from pipeline.evaluation.intervals import wilson
from pipeline.report.classes import by_class, confusion
from pipeline.report.cost import error_against_cost, paired, transfer
from pipeline.report.curves import featured, layers, learning_curves, off_plot, top_of_axis, windows, write_curves_csv
from pipeline.report.inputs import Trial
from pipeline.report.markdown import Figure
from pipeline.report.nets import Bar, by_members, intervals
from pipeline.report.sweep import axis_key, best_of_each, groups, is_grid, points, sweep_figure
from pipeline.report.theme import DARK, LIGHT, render

# Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ rgb / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def figures(blocks) -> list[Figure]:
    return [block for block in blocks if isinstance(block, Figure)]


def texts(blocks) -> str:
    return " ".join(block for block in blocks if isinstance(block, str))


def is_picture(draw, theme=LIGHT) -> bool:
    return render(draw, theme).startswith(b"\x89PNG")


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_palette_stays_apart_in_every_colour_blindness_and_off_the_background(theme):
    for matrix in BLINDNESS.values():
        seen = [lab(np.clip(np.array(matrix) @ linear(colour), 0, 1)) for colour in theme.palette]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 20
    luminance = np.array([0.2126, 0.7152, 0.0722])
    for colour in theme.palette:
        low, high = sorted([luminance @ linear(colour), luminance @ linear(theme.background)])
        assert (high + 0.05) / (low + 0.05) >= 3


def test_a_depth_has_one_colour_and_any_number_of_depths_has_different_ones():
    for n in (1, 6, 7, 20):
        depths = list(range(8, 8 + 6 * n, 6))
        assert len({str(LIGHT.colour(depth, depths)) for depth in depths}) == n
    assert LIGHT.colour(20, [14, 20]) == LIGHT.palette[1]
    assert LIGHT.colour(None, [14, 20]) == LIGHT.text


def test_rendering_ignores_the_users_matplotlib_settings():
    import matplotlib

    draw = by_class([("a", 0.1, 0.05, 0.2)], 0.1)
    expected = render(draw, LIGHT)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "figure.dpi": 30}):
        assert render(draw, LIGHT) == expected
        assert matplotlib.rcParams["font.size"] == 30


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


@pytest.mark.parametrize("K", [3, 20])
def test_class_figures_draw_any_number_of_classes(K):
    counts = np.random.default_rng(0).integers(0, 5, (K, K)).tolist()
    assert is_picture(confusion(counts, [f"a class of things {i}" for i in range(K)]), DARK)
    assert is_picture(by_class([(f"class {i}", i / 10 / K, *wilson(i, 10 * K)) for i in range(K)], 0.05))


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
    (axes,) = learning_curves([*curves, stuck], [20, 32, 44, 110])(LIGHT).axes
    assert legend(axes) == ["plain-20", "plain-32", "plain-44", "plain-110 ↑", "train"]
    curves = [make_curve(make_net(depth, residual=False, steps=8_000), 0.15) for depth in (20, 32, 44)]
    late = replace(curves[0], points={"val/err1": [[400 * k, 0.9 - 0.016 * k] for k in range(1, 21)]})
    assert top_of_axis([*curves, late]) == pytest.approx(0.9 - 0.016 * 5)  # three quarters of the training


def test_learning_curves_are_the_papers_figure():
    inputs = make_sample()
    left, right = learning_curves(inputs.curves, inputs.depths)(LIGHT).axes
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("plain", "residual")
    assert left.get_xlabel() == "steps (10⁴)" and right.get_xlim() == (0, 6.4)
    assert left.get_ylim() == right.get_ylim()
    assert legend(right) == ["ResNet-20", "ResNet-32", "ResNet-44", "ResNet-56", "train"]
    bold = [line for line in right.lines if line.get_linewidth() > 2]
    dashed = [line for line in right.lines if line.is_dashed() and len(line.get_xdata())]
    assert len(bold) == len(dashed) == 4
    assert {line.get_color() for line in bold} == {line.get_color() for line in dashed}
    vgg = make_curve(make_net(model=make_model(16, False, "vgg_bn_small"), steps=1000), 0.1)
    (short,) = learning_curves([vgg], [16])(LIGHT).axes
    assert short.get_xlabel() == "steps" and short.get_title(loc="left") == "others"


def test_curves_of_any_number_and_of_a_diverged_run_draw():
    curves = [make_curve(make_net(8 + 6 * i, steps=6_000), 0.2 - 0.005 * i) for i in range(20)]
    assert is_picture(learning_curves(curves, [8 + 6 * i for i in range(20)]))
    diverged = replace(curves[0], points={"val/err1": [[1, 0.5], [2, None], [3, math.nan]], "train/err1": []})
    assert diverged.series("val/err1") == [(1, 0.5)] and is_picture(learning_curves([diverged], [8]))


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


def trial(error=0.1, stopped=False, run_id="r20", **config):
    config = {key.replace("__", "."): value for key, value in config.items()}
    return Trial(
        name="t", run_id=run_id, config=config, val_err1=error, steps=9, stopped_early=stopped, status="finished"
    )


KNOWN = {f"r{depth}": make_net(depth) for depth in (20, 32)} | {"p20": make_net(20, residual=False)}


def test_the_sweep_runs_along_lr_else_along_what_varied_most_else_along_depth():
    assert axis_key([trial(recipe__lr=lr, recipe__weight_decay=wd) for lr, wd in ((0.1, 1), (0.2, 2), (0.2, 3))]) == (
        "recipe.lr"
    )
    assert axis_key([trial(recipe__weight_decay=w, model__depth=20 + 6 * w) for w in (1, 2)]) == "recipe.weight_decay"
    assert axis_key([trial(model__depth=20), trial(model__depth=32)]) == "model.depth"
    assert axis_key([trial(model__residual=True), trial(model__residual=False)]) is None
    assert axis_key([]) is None


def test_trials_are_grouped_by_their_runs_net_and_those_without_a_place_are_left_out():
    lrs = [trial(recipe__lr=lr, run_id=run) for lr, run in ((0.1, "p20"), (0.2, "r20"), (0.3, "r32"), (0.4, "unknown"))]
    placed = points([*lrs, trial(recipe__lr=0.5, error=None), trial(seed=1)], KNOWN)
    assert [(point.x, point.group.name) for point in placed] == [
        (0.1, "plain-20"),
        (0.2, "ResNet-20"),
        (0.3, "ResNet-32"),
    ]
    depths = [trial(model__depth=depth, run_id=f"r{depth}") for depth in (20, 32)]
    assert [group.name for group in groups(points(depths, KNOWN))] == ["residual"]


def test_a_grid_gets_numbers_and_scattered_draws_do_not():
    grid = [trial(recipe__lr=lr, run_id=f"r{depth}") for lr in (0.1, 0.2) for depth in (20, 32)]
    assert is_grid(points(grid, KNOWN))
    scattered = [trial(recipe__lr=0.01 * i, run_id=f"r{20 + 12 * (i % 2)}") for i in range(1, 30)]
    assert not is_grid(points(scattered, KNOWN)) and not is_grid(points(grid[:1] + grid[2:3], KNOWN))


def test_a_line_joins_the_best_trial_of_each_value():
    seeds = [trial(recipe__lr=lr, seed=seed, error=lr + seed / 100) for lr in (0.1, 0.2) for seed in (2, 0, 1)]
    stopped = trial(recipe__lr=0.2, seed=3, error=0.01, stopped=True)
    placed = points([*seeds, stopped], KNOWN)
    assert [(point.x, point.error) for point in best_of_each(placed)] == [(0.1, 0.1), (0.2, 0.2)]
    (axes,) = sweep_figure(placed, "recipe.lr", [20])(LIGHT).axes
    assert axes.get_xlabel() == "learning rate" and legend(axes) == ["ResNet-20", "stopped early"]


@pytest.mark.parametrize(
    "trials",
    [
        [trial(recipe__lr=lr, error=lr, stopped=lr > 0.2) for lr in (0.1, 0.2, 0.9)],
        [trial(recipe__lr=lr, run_id=f"r{d}", stopped=True) for lr in (0.1, 0.2) for d in (20, 32)],
        [trial(model__depth=d, run_id=f"r{d}") for d in (20, 32)],
        [trial(recipe__lr=lr, error=0.0) for lr in (0.1, 0.2)],
    ],
)
def test_sweeps_of_all_kinds_draw(trials):
    assert is_picture(sweep_figure(points(trials, KNOWN), axis_key(trials), [20, 32]))


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


def test_a_training_of_another_length_is_no_counterpart():
    inputs = started()
    nets = [replace(net, steps=net.steps + bool(net.start)) for net in inputs.nets]
    (block,) = transfer(with_nets(inputs, nets))
    assert "sweep=transfer" in block
