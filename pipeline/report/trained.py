"""What trainings came to, net by net, for claims to be held against: which runs speak for a net, and how long they trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pipeline.report.curves import TRAIN, VAL, series, windows
from pipeline.report.document import percent
from pipeline.report.inputs import Curve, Net, ReportInputs, as_the_paper, full_name, ids, split_of
from pipeline.report.paper import PROTOCOLS, Metric

FULL_LENGTH = 0.95  # of a length: an epoch that does not divide it is no shorter training
LEAST = 1 / 8  # of the paper's iterations; shorter trainings settle no comparison
TRAIN_WINDOWS = 50  # a train error is the mean over the last of so many parts of the training
EARLY = 1 / 4  # of a training, before the learning rate's first drop: how fast a net converges at first


class Training(NamedTuple):
    """A run of a net, and the value that a claim is about: an error as a fraction, or a mean response."""

    model: str
    name: str  # as the paper writes it
    value: float
    steps: int
    lr: float | None  # None where only its curve is known
    recipe: tuple[Any, ...]  # the rest of it that is known; of one kind are runs of the same rate and recipe
    id: str
    val: float  # validation error, infinite without
    full: bool  # trained on all images
    seed: int | None = None  # None: not known


class Measured(NamedTuple):
    """A net's value: the mean of the runs that speak for it."""

    name: str
    value: float
    values: tuple[float, ...]
    n: int  # images that an error is counted on, 0 where the value is none
    steps: int
    full: int  # of the runs, trained on all images
    seeds: tuple[int, ...] = ()  # of the runs, each once

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

    test, top5: test error of evaluated nets. validation, train: the end of a learning curve. early: the mean of the train
    error over the first part of it. responses: the mean over the layers of their standard deviation.
    """
    of = {name: curve for curve in inputs.curves for name in ids(curve)}
    if metric == "test":
        return [_of(net, net["test_err1"], of) for net in inputs.nets if as_the_paper(net)]
    if metric == "top5":
        evaluated = [(net, net["test_err5"]) for net in inputs.nets if as_the_paper(net)]
        return [_of(net, error, of) for net, error in evaluated if error is not None]
    known = {name: net for net in inputs.nets if as_the_paper(net) for name in ids(net)}
    if metric == "responses":
        told = [
            (layers["std"], ids(layers) & known.keys()) for layers in inputs.responses if not layers.get("snapshot")
        ]
        return [_of(known[min(names)], sum(std) / len(std), of) for std, names in told if names]
    found = []
    for curve in inputs.curves:
        value = _on_curve(curve, metric)
        if value is not None and curve.get("plainly", True) and curve.get("complete", True):
            nets = [known[name] for name in ids(curve) if name in known]
            val, steps = series(curve, VAL), length_of(curve)
            lr, full = (nets[0]["lr"], split_of(nets[0]) == "full") if nets else (curve.get("lr"), not val)
            about = (recipe_of(curve), curve["run_id"], val[-1][1] if val else math.inf, full)
            found.append(Training(curve["model"], full_name(curve), value, steps, lr, *about, curve.get("seed")))
    return found


def length_of(curve: Curve) -> int:
    """Steps that a training took."""
    return int((series(curve, VAL) or series(curve, TRAIN))[-1][0])


def recipe_of(curve: Curve | None) -> tuple[Any, ...]:
    """The recipe in a form that can be compared, with whether it has a warm-up."""
    if curve is None:
        return ()
    known = {key: tuple(value) if isinstance(value, list) else value for key, value in curve.get("recipe", {}).items()}
    return (*sorted(known.items()), ("warmup", curve.get("warmup", False)))


def _on_curve(curve: Curve, metric: Metric) -> float | None:
    train = series(curve, TRAIN)
    if metric == "early":
        first = [error for step, error in train if step <= EARLY * length_of(curve)]
        return sum(first) / len(first) if first else None
    values = series(curve, VAL) if metric == "validation" else windows(train, TRAIN_WINDOWS)
    return values[-1][1] if values else None


def _of(net: Net, value: float, curves: Mapping[str, Curve]) -> Training:
    val, full = math.inf if net["val_err1"] is None else net["val_err1"], split_of(net) == "full"
    curve = next((curves[name] for name in sorted(ids(net)) if name in curves), None)
    about = (recipe_of(curve), net["run_id"], val, full)
    return Training(net["model"], full_name(net), value, net["steps"], net["lr"], *about, net["seed"])


def lengths(found: Iterable[Training], dataset: str, least: float = 0.0) -> list[int]:
    """At which numbers of steps nets may be compared: the paper's, then shorter ones, the longest first.

    Args:
        least: where it is not 0, that many times the paper's steps are the only length.
    """
    paper = PROTOCOLS[dataset].steps
    if least:
        return [round(least * paper)]
    shorter = {t.steps for t in found if FULL_LENGTH * LEAST * paper <= t.steps < FULL_LENGTH * paper}
    return [paper, *sorted(shorter, reverse=True)]


def side_by_side(found: Iterable[Training], steps: int, n: int, paper: bool) -> dict[str, Measured]:
    """Nets by name that may be held against each other: of one learning rate and recipe, a warm-up apart.

    Of several such kinds the one that the most nets have, then the most runs, then the best validation error. For the
    arguments see `at_length`.
    """
    kinds: dict[tuple[Any, ...], list[Training]] = {}
    for training in sorted(found, key=lambda training: (training.val, training.id)):
        recipe = tuple(part for part in training.recipe if part[0] != "warmup")
        kinds.setdefault((training.lr, recipe), []).append(training)
    measured = [at_length(trainings, steps, n, paper) for trainings in kinds.values()]
    return max(measured, key=lambda nets: (len(nets), sum(len(net.values) for net in nets.values())), default={})


def at_length(found: Iterable[Training], steps: int, n: int, paper: bool) -> dict[str, Measured]:
    """Nets by name, of runs that trained for `steps`.

    A net's runs at several learning rates or by several recipes are not of one kind: the kind with the most runs speaks
    for it, of equally many the one that holds the best validation error. Where the rate is unknown, the best run speaks.

    Args:
        n: images that an error is counted on.
        paper: `steps` are the paper's, from which a run may be apart by what its epochs do not divide.
    """
    by_model: dict[str, list[Training]] = {}
    for training in found:
        if abs(training.steps / steps - 1) <= (1 - FULL_LENGTH if paper else 0):
            by_model.setdefault(training.model, []).append(training)
    nets = {}
    for model, runs in by_model.items():
        kinds: dict[tuple[Any, ...], list[Training]] = {}
        for run in sorted(runs, key=lambda run: (run.val, run.id)):
            kinds.setdefault((run.lr, run.recipe) if run.lr is not None else (run.id,), []).append(run)
        chosen = max(kinds.values(), key=len)  # the first of equally many
        best = chosen[0]
        values = tuple(run.value for run in chosen)
        full, seeds = (
            sum(run.full for run in chosen),
            tuple(sorted({run.seed for run in chosen if run.seed is not None})),
        )
        nets[model] = Measured(best.name, sum(values) / len(values), values, n, best.steps, full, seeds)
    return nets
