"""The trainings that claims are checked against: which runs represent a net, at which length, and with which result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from pipeline.record import Net
from pipeline.report.curve import COUNTED
from pipeline.report.inputs import ReportInputs
from pipeline.report.markdown import count, percent
from pipeline.report.paper import PROTOCOLS, Claim, Metric
from pipeline.report.traits import as_the_paper, has_warm_up, ids, recipe_of

FULL_LENGTH = 0.95  # share of a length that counts as all of it: epochs need not divide the steps
LEAST = 1 / 8  # share of the paper's steps; shorter trainings settle no comparison
# A metric's images: their name in the data set's counts, and their name on the page.
IMAGES = {"test": "test", "top5": "test", "validation": "val", "train": "train", "early": "train"}
ON = {
    "test": "test images",
    "top5": "test images (top-5)",
    "validation": "validation images",
    "train": "augmented training images of the last steps",
    "early": "augmented training images of the first quarter of the steps",
}


class Training(NamedTuple):
    """A run of a net and the value that a claim compares: an error as a fraction, or a mean response."""

    net: Net
    value: float
    steps: int
    val: float  # validation error; infinite where there is none

    @property
    def recipe(self) -> tuple[tuple[str, Any], ...]:
        """The other settings that decide the result, except the warm-up, as a hashable value."""
        flat = recipe_of(self.net).items()
        return tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in sorted(flat))

    @property
    def warm_up(self) -> bool:
        return has_warm_up(self.net)


class Measured(NamedTuple):
    """A net's value: the mean of the runs that represent it."""

    name: str
    value: float
    values: tuple[float, ...]
    n: int  # images behind an error; 0 where the value is no error
    steps: int
    full: bool  # whether the runs trained on all images
    seeds: tuple[int, ...] = ()  # distinct seeds of the runs

    @property
    def errors(self) -> int:
        return round(self.value * self.n)

    def __str__(self) -> str:
        runs = f" (mean of {len(self.values)} runs)" if len(self.values) > 1 else ""
        split = " (trained on all images)" if self.full else ""
        return f"{self.name} {percent(self.value) if self.n else f'{self.value:.3f}'}{runs}{split}"


def trainings(inputs: ReportInputs, metric: Metric) -> list[Training]:
    """Every run with a value of the metric, among nets trained from random weights on the whole split.

    test, top5: test error. validation, train: the end of a learning curve. early: mean training error over its first
    part. responses: mean over the layers of the responses' standard deviation.
    """
    if metric in ("test", "top5"):
        values = [(net, net.test_err5 if metric == "top5" else net.test_err1) for net in inputs.nets]
    elif metric == "responses":
        values = [(layers.net, sum(layers.std) / len(layers.std)) for layers in inputs.layers]
    else:
        return _on_curves(inputs, metric)
    return [
        Training(net, value, net.steps, math.inf if net.val_err1 is None else net.val_err1)
        for net, value in values
        if value is not None and as_the_paper(net)
    ]


def _on_curves(inputs: ReportInputs, metric: Metric) -> list[Training]:
    tested = {name: net for net in inputs.nets if as_the_paper(net) for name in ids(net)}
    result = []
    for curve in inputs.curves:
        value = curve.error(metric)
        if value is not None and curve.net.complete and as_the_paper(curve.net):
            net = next((tested[name] for name in sorted(ids(curve.net)) if name in tested), curve.net)
            val = curve.error("validation")
            result.append(Training(net, value, curve.steps, math.inf if val is None else val))
    return result


def lengths(runs: Iterable[Training], dataset: str, least: float = 0.0) -> list[int]:
    """Numbers of steps at which nets may be compared: the paper's, then shorter ones, longest first.

    Args:
        least: where above 0, this multiple of the paper's steps is the only length.
    """
    paper = PROTOCOLS[dataset].steps
    if least:
        return [round(least * paper)]
    shorter = {t.steps for t in runs if FULL_LENGTH * LEAST * paper <= t.steps < FULL_LENGTH * paper}
    return [paper, *sorted(shorter, reverse=True)]


def side_by_side(runs: Iterable[Training], steps: int, n: int, paper: bool) -> dict[str, Measured]:
    """Nets by name that may be compared with each other: those of one learning rate and recipe, with any warm-up.

    Among several recipes, the one with the most nets counts, then the most runs, then the best validation error. The
    arguments are those of `at_length`.
    """
    kinds: dict[tuple[Any, ...], list[Training]] = {}
    for training in sorted(runs, key=_rank):
        kinds.setdefault((training.net.lr, training.recipe), []).append(training)
    measured = [at_length(trainings, steps, n, paper) for trainings in kinds.values()]
    return max(measured, key=lambda nets: (len(nets), sum(len(net.values) for net in nets.values())), default={})


def of_length(runs: Iterable[Training], steps: int, paper: bool) -> list[Training]:
    """Those that trained for `steps`.

    Args:
        paper: whether these are the paper's; a run's length may then differ as far as `FULL_LENGTH` allows.
    """
    return [run for run in runs if abs(run.steps / steps - 1) <= (1 - FULL_LENGTH if paper else 0)]


def at_length(runs: Iterable[Training], steps: int, n: int, paper: bool) -> dict[str, Measured]:
    """Nets by name, from the runs that trained for `steps`.

    Runs of a net at different learning rates or by different recipes are not averaged: the recipe with the most runs
    represents the net; ties go to the best validation error. A run without a known rate stands alone.

    Args:
        n: images behind an error.
        paper: see `of_length`.
    """
    by_name: dict[str, list[Training]] = {}
    for training in of_length(runs, steps, paper):
        by_name.setdefault(training.net.name, []).append(training)
    return {name: _measured(trainings, n) for name, trainings in by_name.items()}


def _measured(runs: Iterable[Training], n: int) -> Measured:
    kinds: dict[tuple[Any, ...], list[Training]] = {}
    for run in one_per_seed(runs):
        kind = (run.net.key,) if run.net.lr is None else (run.net.lr, run.recipe, run.warm_up)
        kinds.setdefault(kind, []).append(run)
    return mean_of(max(kinds.values(), key=len), n)  # the first of equally many


def one_per_seed(runs: Iterable[Training]) -> list[Training]:
    """The best run on validation images of each seed and setting, best first.

    A run that repeats another one's seed, with other validations for example, shows nothing of how far seeds differ.
    """
    best: dict[tuple[Any, ...], Training] = {}
    for run in sorted(runs, key=_rank):
        seed = run.net.key if run.net.seed is None else run.net.seed
        best.setdefault((run.net.name, run.net.lr, run.recipe, run.warm_up, seed), run)
    return list(best.values())


def mean_of(runs: Sequence[Training], n: int) -> Measured:
    """Of runs of one net with different seeds.

    Args:
        n: images behind an error.
    """
    values = tuple(run.value for run in runs)
    net, steps, seeds = runs[0].net, runs[0].steps, seeds_of(run.net for run in runs)
    return Measured(net.name, sum(values) / len(values), values, n, steps, net.split == "full", seeds)


def _rank(training: Training) -> tuple[float, str, str]:
    return training.val, training.net.run_id, training.net.key


def missing(inputs: ReportInputs, claim: Claim, wanted: int) -> str:
    """What would have to be trained, and the results of shorter runs so far."""
    longest: dict[str, tuple[Training, Metric]] = {}
    metrics: Sequence[Metric] = ("validation", "test") if claim.metric == "test" else (claim.metric,)
    for metric in metrics:
        for training in trainings(inputs, metric):
            before = longest.get(training.net.name)
            if not before or before[1] != metric or training.steps > before[0].steps:
                longest[training.net.name] = (training, metric)
    short = []
    for name in (name for name in claim.nets if name in longest):
        training, metric = longest[name]
        value = f"{training.value:.3f}" if metric == "responses" else percent(training.value)
        split = "" if metric in ("test", "top5", "responses") else f" on {ON[metric]}"
        short.append(f"{name} {value}{split} after {count(training.steps)}")
    so_far = f" So far: {', '.join(short)}." if short else ""
    paper = PROTOCOLS[inputs.data["name"]].steps
    what = claim.nets[0] if wanted == 1 else f"two of {', '.join(claim.nets)}"
    length = f"the paper's {count(paper)} steps"
    if claim.length:
        length = f"{count(round(claim.length * paper))} steps"
    elif wanted > 1:
        length += ", or both for an eighth of them at least"
    return f"Needs {what} trained for {length}.{so_far}"


def measured_at(
    inputs: ReportInputs,
    runs: Sequence[Training],
    metric: Metric,
    steps: int,
    choose: Callable[..., dict[str, Measured]] = at_length,
) -> dict[str, Measured]:
    """Nets by name at a length, their errors on as many images as the metric counts; see `at_length`."""
    n = images_of(inputs, metric, runs, steps)
    if metric in IMAGES and not n:
        return {}
    return choose(runs, steps, n, steps >= PROTOCOLS[inputs.data["name"]].steps)


def images_of(inputs: ReportInputs, metric: Metric, runs: Sequence[Training], steps: int = 0) -> int:
    """Images behind an error, of training images at most all; 0 where the value is no error.

    Args:
        steps: of the trainings; 0 for each run's own.
    """
    n: int = inputs.data["counts"].get(IMAGES[metric], 0) if metric in IMAGES else 0
    if metric in COUNTED:
        seen = [(steps or run.steps) * run.net.recipe.batch_size for run in runs if run.net.recipe]
        n = min([n, *(round(COUNTED[metric] * images) for images in seen)])
    return n


def at_full_length(inputs: ReportInputs, claim: Claim, metric: Metric) -> Measured | None:
    """The claim's single net, trained for the paper's length by its recipe."""
    runs = by_the_papers_recipe(inputs, claim, metric)
    return measured_at(inputs, runs, metric, PROTOCOLS[inputs.data["name"]].steps).get(claim.nets[0])


def by_the_papers_recipe(inputs: ReportInputs, claim: Claim, metric: Metric) -> list[Training]:
    """Trainings of the claim's nets at the paper's learning rate and by its recipe, of any length."""
    protocol = PROTOCOLS[inputs.data["name"]]
    runs = [t for t in trainings(inputs, metric) if t.net.name in claim.nets and t.net.lr in (None, protocol.lr)]
    return [t for t in runs if protocol.follows(recipe_of(t.net))]


def behind(inputs: ReportInputs, *nets: Measured) -> dict[str, Any]:
    """Runs, seeds and length behind a verdict on these nets."""
    return {
        "runs": sum(len(net.values) for net in nets),
        "seeds": tuple(sorted({seed for net in nets for seed in net.seeds})),
        "length": min(net.steps for net in nets) / PROTOCOLS[inputs.data["name"]].steps,
    }


def behind_runs(inputs: ReportInputs, runs: Sequence[Training]) -> dict[str, Any]:
    """As `behind`, of single trainings."""
    length = min(training.steps for training in runs) / PROTOCOLS[inputs.data["name"]].steps
    return {"runs": len(runs), "seeds": seeds_of(training.net for training in runs), "length": length}


def trained(nets: Iterable[Net]) -> int:
    """Number of trainings, of which one may have left several nets (snapshots)."""
    return len({net.key for net in nets})


def seeds_of(nets: Iterable[Net]) -> tuple[int, ...]:
    return tuple(sorted({net.seed for net in nets if net.seed is not None}))
