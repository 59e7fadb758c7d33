"""What the pages of published results need to know of a task: how its experiments are kept, judged and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pipeline.record import Net
from pipeline.report import markdown as md
from pipeline.report.claims import Outcome
from pipeline.report.curve import Curve
from pipeline.report.inputs import Results

Result = Mapping[str, Any]  # a published experiment's JSON
Series = Sequence[tuple[float, float]]
Inputs = TypeVar("Inputs", bound=Results)


@dataclass(frozen=True, kw_only=True)
class Task(Generic[Inputs]):
    """What nets learn (see `pipeline.learn.tasks`), as far as pages of published results depend on it."""

    read: Callable[[Result], Inputs]  # a kept result as the report's inputs
    keep: Callable[[Inputs], dict[str, Any]]  # what is kept of the inputs beside what all tasks keep
    assess: Callable[[Inputs], list[Outcome]]
    rules: str  # of its verdicts
    figures: Callable[[Inputs], Iterable[md.Figure]]
    pictures: Mapping[str, str]  # the figures that are kept, in the order of the page, and what they show
    limits: Mapping[str, int]  # bytes of a picture in git; a larger one is left out
    tables: Callable[[Inputs], list[md.Markdown]]
    # Of the overview, which has a row for each experiment:
    header: tuple[str, str]  # titles of the columns of experiments and of what was measured
    named: Callable[[Net], str]
    measured: Callable[[Inputs, Mapping[str, Any]], str]  # of a net or an ensemble
    more: Mapping[str, Callable[[Inputs], str]]  # further columns
    first: Callable[[Inputs], bool] = lambda inputs: False  # whether it stands before the task's other experiments


def kept_curve(curve: Curve, series: Mapping[str, Series]) -> dict[str, Any]:
    """A curve as JSON with these points alone, fractions rounded to a hundredth of a percent."""
    points = {metric: [[round(step), round(value, 4)] for step, value in values] for metric, values in series.items()}
    return {"net": curve.net.to_json(), "points": points}


def written(blocks: Iterable[md.Block]) -> list[md.Markdown]:
    """The blocks without their figures."""
    return [block for block in blocks if isinstance(block, md.Markdown)]
