from __future__ import annotations

import csv
import math

import pytest

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


def test_csv_holds_every_finite_point(make_curve, tmp_path):
    curve = make_curve(20, True, 640, final=0.1)
    curve["points"] = {"val/err1": [[20, 0.5], [10, 0.75], [30, math.nan]], "train/loss": [[10, 2.0]]}
    write_curves_csv([curve], tmp_path / "curves.csv")
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["run", "model", "step", "metric", "value"]
    assert [(row["metric"], row["step"], float(row["value"])) for row in rows] == [
        ("train/loss", "10", 2.0),
        ("val/err1", "10", 0.75),
        ("val/err1", "20", 0.5),
    ]
    assert {row["run"] for row in rows} == {curve["name"]}


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
