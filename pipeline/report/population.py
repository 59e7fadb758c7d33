"""Population based training: the learning rates of its members over the steps, and the line that ends in the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report import markdown as md
from pipeline.report.theme import Draw, Theme, new_figure

Segment = Mapping[str, Any]  # see `pipeline.tuning.population.history`


def population(summary: Mapping[str, Any]) -> list[md.Block]:
    """The figure and the table of leaderboard.json's `population`."""
    segments, best = summary["segments"], line_of_best(summary)
    if not best:
        return [md.paragraph("No member of the population came to the end of its first interval.")]
    members = 1 + max(segment["member"] for segment in segments)
    caption = (
        f"Learning rates of {md.plural(members, 'member')} of a population. Grey: each member; a vertical line leads from "
        "the weights that it copied to the rate that it took with them. Bold: the best member and those that it "
        "descends from, which together are the schedule that was found."
    )
    alt = f"Learning rate from {best[0]['lr']:.4g} to {best[-1]['lr']:.4g} over {md.count(best[-1]['to_step'])} steps"
    rows = [
        [
            md.count(segment["from_step"]),
            md.count(segment["to_step"]),
            f"{segment['lr']:.4g}",
            str(segment["member"]),
            md.percent(segment["val_err1"]),
            segment["key"],
        ]
        for segment in best
    ]
    header = ["from step", "to step", "learning rate", "member", "validation", "run"]
    title = "The schedule that was found, with the validation error at the end of each interval."
    return [md.Figure("population", caption, alt, population_figure(summary)), md.table(header, rows, "rrrrrl", title)]


def line_of_best(summary: Mapping[str, Any]) -> list[Segment]:
    by_key = {segment["key"]: segment for segment in summary["segments"]}
    return [by_key[key] for key in summary["best"]]


def population_figure(summary: Mapping[str, Any]) -> Draw:
    def draw(theme: Theme) -> Any:
        figure = new_figure(theme, 8, 4.2, 3.2)
        axes = figure.subplots()
        # A member that diverged before its first validation has no key, as the first ones have no parent.
        by_key = {segment["key"]: segment for segment in summary["segments"] if segment["key"]}
        for segment in summary["segments"]:
            _draw(axes, [*filter(None, [by_key.get(segment["parent"])]), segment][-2:], theme.muted, 0.9)
        _draw(axes, line_of_best(summary), theme.text, 2.4)
        axes.set_yscale("log")
        axes.set_xlabel("steps")
        axes.set_ylabel("learning rate")
        return figure

    return draw


def _draw(axes: Any, line: Sequence[Segment], colour: str, width: float) -> None:
    """Segments in a row as steps of one line."""
    xs = [step for segment in line for step in (segment["from_step"], segment["to_step"])]
    ys = [segment["lr"] for segment in line for _ in range(2)]
    axes.plot(xs, ys, color=colour, linewidth=width)
