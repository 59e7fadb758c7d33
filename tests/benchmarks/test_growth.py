from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import growth
from benchmarks.growth import Growth
from benchmarks.harness import FULL, QUICK, Bench, measure


@pytest.mark.parametrize(
    ("costs", "ratio", "holds"),
    [
        ([3.0, 6.0, 18.0], 1.0, True),  # 2 s once and 0.1 s each
        ([5.0, 5.0, 5.0], 1.0, True),
        ([1.0, 16.0, 256.0], 256 / 76, False),  # with the square
    ],
)
def test_what_grows_faster_than_a_line_is_noticed(costs: list[float], ratio: float, holds: bool) -> None:
    result = measure(growth.row(Growth("time of it", "things", "s", [10, 40, 160], costs)), 5, lambda line: None)
    assert result.ratio == pytest.approx(ratio)
    assert result.holds is holds
    assert result.name == "time of it, 160 things against the line through 10 and 40"


def test_trainings_and_ensembles_are_timed_at_three_sizes(tmp_path: Path, bench: Callable[..., Bench]) -> None:
    tiny = bench()
    for result in (growth.training(bench(effort=FULL), 1, 8, 8), growth.ensembles(tiny, 1, 8)):
        assert list(result.sizes) == [1, 4, 16]
        assert all(0 < cost < 60 for cost in result.costs)
    trainings = list((tmp_path / "work" / "growth-training").glob("*/*/run.json"))
    assert len(trainings) == 1 + 2 * len(growth.TIMES)  # one warms up; the second round trains again


@pytest.mark.slow
def test_the_section_draws_what_it_measures(tmp_path: Path, bench: Callable[..., Bench]) -> None:
    rows = growth.section(bench(effort=QUICK), depth=8, batch_size=8)
    assert [row.unit for row in rows] == ["s", "s", "MB", "s", "MB"]
    assert all(row.judged == "ratio <=" and row.bar == 1.3 for row in rows)
    assert (tmp_path / "metrics" / "growth.png").read_bytes().startswith(b"\x89PNG")
