"""Published experiments with nets that classify."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.report import markdown as md
from pipeline.report.checks import assess
from pipeline.report.curve import EARLY_TRAIN, TRAIN, VAL, Curve
from pipeline.report.curves import featured, windows
from pipeline.report.gain import averaging, gain
from pipeline.report.inputs import ReportInputs
from pipeline.report.kept import Result, Task, kept_curve, written
from pipeline.report.nets import described, nets_table, with_errors
from pipeline.report.page import RULES, compose
from pipeline.report.paper import Metric
from pipeline.report.traits import as_the_paper, has_warm_up

WARM_UP_STEPS = 2000  # of a training that starts with a warm-up, kept point by point
ON_CURVES: tuple[Metric, ...] = ("validation", "train", "early")
COLUMNS = ("steps", "minutes", "validation", "test", "ci95", "top5", "ci95_err5")


def _read(result: Result) -> ReportInputs:
    return ReportInputs(
        curves=[Curve.from_json(curve) for curve in result["curves"]],
        **{key: result[key] for key in ("data", "evaluation", "leaderboard", "responses", "provenance")},
    )


def _keep(inputs: ReportInputs) -> dict[str, Any]:
    curves = [*featured(inputs.curves)]
    curves += [c for c in inputs.curves if c not in curves and _is_judged(c)]
    return {"curves": [_thin(curve) for curve in curves], "responses": list(inputs.responses)}


def _is_judged(curve: Curve) -> bool:
    """Whether claims may be about it."""
    return curve.last_error is not None and curve.net.complete and as_the_paper(curve.net)


def _thin(curve: Curve) -> dict[str, Any]:
    """A curve as the figure draws it, to its last step, and the errors that claims compare, since windows would change these."""
    train = curve.series(TRAIN)
    kept = {TRAIN: [*windows(train[:-1]), *train[-1:]], VAL: curve.series(VAL)}
    if has_warm_up(curve.net):
        kept[EARLY_TRAIN] = [point for point in train if point[0] <= WARM_UP_STEPS]
    errors: dict[str, Any] = {metric: curve.error(metric) for metric in ON_CURVES}
    return {**kept_curve(curve, kept), "errors": errors | {"parts": curve.by_part()}}


def _figures(inputs: ReportInputs) -> Iterable[md.Figure]:
    return compose(inputs, assess(inputs)).figures()


def _tables(inputs: ReportInputs) -> list[md.Markdown]:
    return [nets_table(inputs.evaluation, COLUMNS), *written([*gain(inputs), *averaging(inputs)])]


def _measured(inputs: ReportInputs, errors: Mapping[str, Any]) -> str:
    return with_errors(errors, inputs.top5_tells)


NETS = Task(
    read=_read,
    keep=_keep,
    assess=assess,
    rules=RULES,
    figures=_figures,
    pictures={
        "by-members": "error by number of members",
        "curves": "learning curves",
        "responses": "layer responses",
        "cost": "error against cost",
        "transfer": "transfer",
    },
    limits={},
    tables=_tables,
    header=("experiment", "test error"),
    named=described,
    measured=_measured,
    more={},
    first=lambda inputs: inputs.top5_tells,
)
