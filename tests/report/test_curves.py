from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys

import pytest
import yaml
from imports import ROOT

from pipeline.report.curves import (
    featured,
    last_error,
    learning_curves,
    off_plot,
    series,
    top_of_axis,
    windows,
    write_curves_csv,
)
from pipeline.report.theme import LIGHT, render


def axes_of(curves):
    import matplotlib

    with matplotlib.rc_context():
        return learning_curves(curves, sorted({curve["depth"] for curve in curves}))(LIGHT).axes


def rows_of(curves, path):
    write_curves_csv(curves, path)
    with path.open() as file:
        return list(csv.DictReader(file))


def test_csv_holds_a_nets_finite_validation_errors_in_order(make_curve, tmp_path):
    curve = make_curve(20, True, 640, final=0.1)
    curve["points"] = {"val/err1": [[20, 0.5], [10, 0.75], [30, math.nan]], "train/loss": [[10, 2.0]]}
    assert rows_of([curve], tmp_path / "curves.csv") == [
        {"net": "ResNet-20", "run": curve["name"], "step": "10", "validation error": "0.75"},
        {"net": "ResNet-20", "run": curve["name"], "step": "20", "validation error": "0.5"},
    ]


def test_what_dvc_plots_has_one_value_a_step_in_each_series(make_sample, tmp_path):
    rows = rows_of(make_sample().curves, tmp_path / "curves.csv")
    (plot,) = (
        p["learning curves"] for p in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"] if "learning curves" in p
    )
    template = json.loads((ROOT / ".dvc" / "plots" / f"{plot['template']}.json").read_text())
    series = template["encoding"]["color"]["field"]
    assert {plot["x"], plot["y"]["experiments/${data}/curves.csv"], series} <= set(rows[0])
    assert len({row[series] for row in rows}) == 6  # four residual nets, two plain ones
    points = [(row[series], row[plot["x"]]) for row in rows]
    assert len(points) == len(set(points))


def test_dvc_finds_the_template_and_the_columns(make_sample, tmp_path):
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
    assert {point["net"] for point in drawn["data"]["values"]} >= {"ResNet-20", "plain-56"}


def test_a_run_on_all_images_does_not_stand_in_for_one_with_a_validation_curve(make_curve):
    holdout, full = make_curve(20, True, 640, final=0.08), make_curve(20, True, 640, seed=1, final=0.08)
    full["points"] = {"train/err1": [[1, 0.5], [2, 0.01]]}
    assert featured([full, holdout]) == [holdout]


def test_the_best_run_of_a_net_is_featured(make_curve):
    good, bad = make_curve(20, True, 640, final=0.08), make_curve(20, True, 640, seed=1, final=0.09)
    plain = make_curve(20, False, 640, final=0.1)
    assert featured([bad, good, plain]) == [plain, good]
    assert featured([]) == []


def test_without_validation_the_train_error_is_what_counts(make_curve):
    curve = make_curve(20, True, 640, final=0.08)
    curve["points"] = {"train/err1": [[1, 0.5], [2, 0.25]]}
    assert last_error(curve) == 0.25
    curve["points"] = {"train/loss": [[1, 0.5]]}
    assert last_error(curve) is None


def test_a_diverged_curve_is_drawn_as_far_as_it_goes(make_curve):
    curve = make_curve(20, True, 640, final=0.08)
    curve["points"] = {"val/err1": [[1, 0.5], [2, None], [3, math.nan]], "train/err1": []}
    assert series(curve, "val/err1") == [(1, 0.5)]
    assert render(learning_curves([curve], [20]), LIGHT).startswith(b"\x89PNG")


def test_windows_keep_the_mean():
    values = [(i, float(i % 7)) for i in range(1000)]
    short = windows(values, 100)
    assert len(short) == 100
    assert sum(v for _, v in short) / 100 == pytest.approx(sum(v for _, v in values) / 1000)
    assert windows(values[:5], 100) == values[:5]


def test_a_net_that_did_not_learn_leaves_the_plot_and_is_named(make_curve):
    curves = [make_curve(depth, False, 64_000, final=0.1) for depth in (20, 32, 44)]
    stuck = make_curve(110, False, 64_000, final=0.62)
    assert top_of_axis([*curves, stuck]) < 0.62
    assert [curve["depth"] for curve in off_plot([*curves, stuck])] == [110]
    assert off_plot(curves) == []


def test_of_a_net_that_learns_late_three_quarters_of_the_training_are_seen(make_curve):
    curves = [make_curve(depth, False, 8_000, final=0.15) for depth in (20, 32, 44)]
    late = {
        **make_curve(56, False, 8_000, final=0.58),
        "points": {"val/err1": [[400 * k, 0.9 - 0.016 * k] for k in range(1, 21)]},
    }
    assert top_of_axis([*curves, late]) == pytest.approx(0.9 - 0.016 * 5)


def test_axes_are_the_papers(make_curve, make_sample):
    left, right = axes_of(make_sample().curves)
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("plain", "residual")
    assert left.get_xlabel() == "iterations (10⁴)"
    assert right.get_xlim() == (0, 6.4)
    assert left.get_ylim() == right.get_ylim()
    bold = [line for line in right.lines if line.get_linewidth() > 2]
    dashed = [line for line in right.lines if line.get_linestyle() == "--"]
    assert len(bold) == len(dashed) == 4
    assert {line.get_color() for line in bold} == {line.get_color() for line in dashed}
    (short,) = axes_of([make_curve(14, True, 510, final=0.03)])
    assert short.get_xlabel() == "iterations"


def test_twenty_curves_draw(make_curve):
    curves = [make_curve(8 + 6 * i, True, 6_000, final=0.2 - 0.005 * i) for i in range(20)]
    assert render(learning_curves(curves, [8 + 6 * i for i in range(20)]), LIGHT).startswith(b"\x89PNG")


def test_other_systems_have_a_panel_of_their_own(make_curve):
    plain, residual, other = (make_curve(16, kind, 1000, final=0.1) for kind in (False, True, False))
    vgg = {**other, "model": "vgg16_bn_small"}
    curves = [plain, residual, vgg]
    assert [axes.get_title(loc="left") for axes in axes_of(curves)] == ["plain", "residual", "others"]
    assert featured([plain, vgg]) == [plain, vgg]  # of the same depth, and two nets
