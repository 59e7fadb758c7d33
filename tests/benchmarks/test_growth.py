from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import growth
from benchmarks.bench import FULL, QUICK, Bench
from benchmarks.growth import Growth
from benchmarks.harness import measure
from benchmarks.synthetic import synthetic_store
from pipeline.report.theme import LIGHT, render


def of(costs: list[float]) -> Growth:
    return Growth("time of it", "things", "s", [10, 40, 160], costs)


@pytest.mark.parametrize(
    ("costs", "ratio", "holds"),
    [
        ([3.0, 6.0, 18.0], 1.0, True),  # 2 s once and 0.1 s each
        ([5.0, 5.0, 5.0], 1.0, True),
        ([1.0, 16.0, 256.0], 256 / 76, False),  # with the square
    ],
)
def test_what_grows_faster_than_a_line_is_noticed(costs: list[float], ratio: float, holds: bool) -> None:
    found = measure(growth.row(of(costs)), 5, lambda line: None)
    assert found.ratio == pytest.approx(ratio)
    assert found.holds is holds
    assert found.name == "time of it, 160 things against the line through 10 and 40"


def test_the_figure_is_a_picture() -> None:
    draw = growth.figure([of([3.0, 6.0, 18.0]), of([5.0, 5.0, 5.0])])
    assert render(draw, LIGHT).startswith(b"\x89PNG")
    axes = draw(LIGHT).axes
    assert [panel.get_xlabel() for panel in axes] == ["things"] * 2
    assert "1.00 of the line" in [text.get_text() for text in axes[0].texts]


def test_trainings_and_ensembles_are_timed_at_three_sizes(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "store", side=8, classes=4, images=96, num_val=16)
    work = tmp_path / "work"
    work.mkdir()
    bench = Bench(store, work, tmp_path, torch.device("cpu"), QUICK, lambda line: None)
    for found in (growth.training(bench, 1, 8, 8), growth.ensembles(bench, 1, 8)):
        assert list(found.sizes) == [1, 4, 16]
        assert all(0 < cost < 60 for cost in found.costs)


def test_a_size_that_is_measured_again_is_trained_again(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "store", side=8, classes=4, images=96, num_val=16)
    work = tmp_path / "work"
    work.mkdir()
    growth.training(Bench(store, work, tmp_path, torch.device("cpu"), FULL, lambda line: None), 1, 8, 8)
    assert len(list(work.glob("*/*/*/run.json"))) == 1 + 2 * len(growth.TIMES)  # the first one warms up


@pytest.mark.slow
def test_the_section_draws_what_it_measures(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "store", side=8, classes=4, images=96, num_val=16)
    work = tmp_path / "work"
    work.mkdir()
    bench = Bench(store, work, tmp_path / "metrics", torch.device("cpu"), QUICK, lambda line: None)
    found = growth.section(bench, depth=8, batch_size=8)
    assert [row.unit for row in found] == ["s", "s", "MB", "s", "MB"]
    assert all(row.judged == "ratio <=" and row.bar == 1.3 for row in found)
    assert (tmp_path / "metrics" / "growth.png").read_bytes().startswith(b"\x89PNG")
