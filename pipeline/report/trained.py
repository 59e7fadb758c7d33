"""What trainings came to, net by net, for claims to be held against: which runs speak for a net, and how long they trained."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from pipeline.report.curves import TRAIN, VAL, series, windows
from pipeline.report.document import percent
from pipeline.report.inputs import Net, ReportInputs, as_the_paper, full_name, ids, split_of
from pipeline.report.paper import PROTOCOLS, Metric

FULL_LENGTH = 0.95  # of a length: an epoch that does not divide it is no shorter training
LEAST = 1 / 8  # of the paper's iterations; shorter trainings settle no comparison
TRAIN_WINDOWS = 50  # a train error is the mean over the last of so many parts of the training


class Training(NamedTuple):
    """A run of a net, and the value that a claim is about: an error as a fraction, or a mean response."""

    model: str
    name: str  # as the paper writes it
    value: float
    steps: int
    lr: float | None  # None where only its curve is known
    id: str
    val: float  # validation error, infinite without
    full: bool  # trained on all images


class Measured(NamedTuple):
    """A net's value: the mean of the runs that speak for it."""

    name: str
    value: float
    values: tuple[float, ...]
    n: int  # images that an error is counted on, 0 where the value is none
    steps: int
    full: int  # of the runs, trained on all images

    @property
    def errors(self) -> int:
        return round(self.value * self.n)

    def __str__(self) -> str:
        runs = f" (mean of {len(self.values)} runs)" if len(self.values) > 1 else ""
        all_full = self.full == len(self.values)
        split = f" ({'' if all_full else f'{self.full} '}trained on all images)" if self.full else ""
        return f"{self.name} {percent(self.value) if self.n else f'{self.value:.3f}'}{runs}{split}"


def trainings(inputs: ReportInputs, metric: Metric) -> list[Training]:
    """Every run that has a value of the metric.

    test: test error of evaluated nets. validation, train: the end of a learning curve. responses: the mean over the
    layers of their standard deviation.
    """
    if metric == "test":
        return [_of(net, net["test_err1"]) for net in inputs.nets if as_the_paper(net)]
    known = {name: net for net in inputs.nets if as_the_paper(net) for name in ids(net)}
    if metric == "responses":
        told = [(known[name], layers["std"]) for layers in inputs.responses for name in ids(layers) if name in known]
        return [_of(net, sum(std) / len(std)) for net, std in told]
    found = []
    for curve in inputs.curves:
        val, train = series(curve, VAL), series(curve, TRAIN)
        values = val if metric == "validation" else windows(train, TRAIN_WINDOWS)
        if values and curve.get("plainly", True):
            nets = [known[name] for name in ids(curve) if name in known]
            steps, end = int((val or train)[-1][0]), val[-1][1] if val else math.inf
            lr, full = (nets[0]["lr"], split_of(nets[0]) == "full") if nets else (None, not val)
            found.append(
                Training(curve["model"], full_name(curve), values[-1][1], steps, lr, curve["run_id"], end, full)
            )
    return found


def _of(net: Net, value: float) -> Training:
    val = math.inf if net["val_err1"] is None else net["val_err1"]
    return Training(
        net["model"], full_name(net), value, net["steps"], net["lr"], net["run_id"], val, split_of(net) == "full"
    )


def lengths(found: Iterable[Training], dataset: str) -> list[int]:
    """At which numbers of steps nets may be compared: the paper's, then shorter ones, the longest first."""
    paper = PROTOCOLS[dataset].steps
    shorter = {t.steps for t in found if FULL_LENGTH * LEAST * paper <= t.steps < FULL_LENGTH * paper}
    return [paper, *sorted(shorter, reverse=True)]


def at_length(found: Iterable[Training], steps: int, n: int, paper: bool) -> dict[str, Measured]:
    """Nets by name, of runs that trained for `steps`.

    A net's runs at several learning rates are not of one kind: those at the rate that validates best speak for it. Of a
    run that was not evaluated nothing but its curve is known: the best one speaks.

    Args:
        n: images that an error is counted on.
        paper: `steps` are the paper's: longer runs count too.
    """
    by_model: dict[str, list[Training]] = {}
    for training in found:
        near = training.steps >= FULL_LENGTH * steps and (paper or training.steps == steps)
        if near:
            by_model.setdefault(training.model, []).append(training)
    nets = {}
    for model, runs in by_model.items():
        best = min(runs, key=lambda run: (run.val, run.id))
        chosen = [run for run in runs if run.lr == best.lr] if best.lr is not None else [best]
        values = tuple(run.value for run in chosen)
        nets[model] = Measured(best.name, sum(values) / len(values), values, n, best.steps, sum(r.full for r in chosen))
    return nets
