"""The schedule that a population found, as the report shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from samples import make_sample

from pipeline.report import markdown as md
from pipeline.report.population import line_of_best, population, population_figure
from pipeline.report.sweep import sweep
from pipeline.report.theme import LIGHT


def segment(member: int, to: int, lr: float, key: str, parent: str = "") -> dict[str, Any]:
    values = {"member": member, "from_step": to - 10, "to_step": to, "lr": lr, "key": key, "parent": parent}
    return {**values, "val_err1": 0.1, "status": "finished"}


# Member 1 copies member 0 after the first interval, and ends as the best.
TOLD = {
    "segments": [
        *(segment(0, 10, 0.1, "a"), segment(1, 10, 0.9, "b")),
        *(segment(0, 20, 0.1, "c", "a"), segment(1, 20, 0.08, "d", "a")),
    ],
    "best": ["a", "d"],
}


def test_the_table_has_the_rates_of_the_best_members_line_and_the_figure_all_members():
    assert [each["lr"] for each in line_of_best(TOLD)] == [0.1, 0.08]
    figure, table = population(TOLD)
    assert isinstance(figure, md.Figure) and "from 0.1 to 0.08 over 20 steps" in figure.alt
    assert [line.split(" | ")[2] for line in str(table).splitlines()[-2:]] == ["0.1", "0.08"]
    (axes,) = population_figure(TOLD)(LIGHT).axes
    assert [list(line.get_ydata()) for line in axes.lines][-1] == [0.1, 0.1, 0.08, 0.08]
    assert [0.1, 0.1, 0.08, 0.08] in [list(line.get_ydata()) for line in axes.lines[:-1]]  # the copy is a vertical line


def test_no_member_seems_a_copy_of_one_that_diverged_before_its_first_validation():
    diverged = {**TOLD, "segments": [segment(2, 10, 9.0, ""), *TOLD["segments"]]}
    (axes,) = population_figure(diverged)(LIGHT).axes
    assert [list(line.get_ydata()) for line in axes.lines if 9.0 in line.get_ydata()] == [[9.0, 9.0]]


def test_the_reports_sweep_shows_it_and_says_where_there_is_none():
    sample = make_sample("cifar10")
    told = replace(sample, leaderboard={**sample.leaderboard, "population": TOLD})
    assert [block.name for block in sweep(told) if isinstance(block, md.Figure)] == ["population"]
    assert "No member" in str(population({"segments": [], "best": []})[0])
