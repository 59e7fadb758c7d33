"""How each kind of claim is held against trainings.

A comparison holds or fails by its estimate; a published error is reached unless our whole interval lies above it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from pipeline.evaluation.intervals import newcombe, wilson
from pipeline.report.curves import VAL, series
from pipeline.report.document import count, interval, percent, points
from pipeline.report.inputs import Layers, ReportInputs, as_the_paper, ids, short_name
from pipeline.report.outcome import Outcome, Status, compared, near, unmeasured
from pipeline.report.paper import PROTOCOLS, Claim, Metric
from pipeline.report.trained import FULL_LENGTH, LEAST, Measured, Training, at_length, lengths, side_by_side, trainings

# No layer's gradient is this many times smaller, or larger, than the median layer's. Vanished ones are many orders of
# magnitude smaller: without batch norm, a factor at each of the layers.
HEALTHY = 100.0
SEVERAL = 2  # validations, each after an epoch or more
# A metric's images, by their name in the counts and by their name on the page.
IMAGES = {"test": "test", "top5": "test", "validation": "val", "train": "train", "early": "train"}
TOLD = {
    "test": "test images",
    "top5": "test images (top-5)",
    "validation": "validation images",
    "train": "training images",
    "early": "training images, mean over the first quarter of the training",
}


def ensemble_gain(claim: Claim, inputs: ReportInputs) -> Outcome:
    """The ensemble against the member that validates best, on the same test images."""
    ensemble, best = inputs.ensemble, inputs.best_member
    if ensemble is None or best is None or ensemble["size"] < 2:
        return unmeasured(claim, "No ensemble of two members or more was evaluated.")
    top5 = claim.metric == "top5"
    ours = ensemble["test_err5"] if top5 else ensemble["test_err1"]
    theirs = best["test_err5"] if top5 else best["test_err1"]
    if ours is None or theirs is None:
        return unmeasured(claim, "No top-5 error was measured.")
    gain = ensemble.get("difference_to_best_member5") if top5 else inputs.gain
    difference = gain["estimate"] if gain else ours - theirs
    bounds = (float(gain["ci95"][0]), float(gain["ci95"][1])) if gain else None
    evidence = (
        f"On {inputs.data['name']}, {ensemble['size']} nets: ensemble {percent(ours)}, "
        f"best member {short_name(best)} {percent(theirs)}"
    )
    seeds = tuple(sorted({net["seed"] for net in inputs.members if net["seed"] is not None}))
    return compared(claim, difference < 0, difference, bounds, evidence, runs=ensemble["size"], seeds=seeds)


def compare_nets(claim: Claim, inputs: ReportInputs) -> Outcome:
    """Holds the first measured one of the claim's nets against the last, both trained for as long.

    falls: the last has the smaller value. comparable: their errors are no further apart than the claim's margin.
    """
    order: Sequence[Metric] = ("test", "validation") if claim.metric == "test" else (claim.metric,)
    for metric in order:
        found = [t for t in trainings(inputs, metric) if t.model in claim.nets]
        for steps in lengths(found, inputs.data["name"], claim.length):
            measured = _at(inputs, found, metric, steps, side_by_side)
            chain = [measured[model] for model in claim.nets if model in measured]
            if len(chain) >= 2:
                return _pair(claim, inputs, chain, metric)
    return unmeasured(claim, _missing(inputs, claim, 2))


def _pair(claim: Claim, inputs: ReportInputs, chain: list[Measured], metric: Metric) -> Outcome:
    first, last = chain[0], chain[-1]
    protocol = PROTOCOLS[inputs.data["name"]]
    length = min(net.steps for net in chain) / protocol.steps
    facts: dict[str, Any] = {"runs": sum(len(net.values) for net in chain), "length": length}
    facts["seeds"] = tuple(sorted({seed for net in chain for seed in net.seeds}))
    shown = ", ".join(map(str, chain))
    if metric == "responses":
        difference = last.value - first.value
        status: Status = "holds" if difference < 0 else "fails"
        return Outcome(claim=claim, status=status, evidence=shown + _rises(chain), value=difference, **facts)
    bounds = None
    if IMAGES[metric] != "train":  # each step sees others of them, and a net fits them while they are counted
        apart = newcombe(last.errors, last.n, first.errors, first.n)
        bounds = (apart.low, apart.high)
    evidence = f"{shown} on {count(last.n)} {TOLD[metric]}"
    for upper, lower in pairwise(chain if bounds else ()):
        back = newcombe(lower.errors, lower.n, upper.errors, upper.n)
        if claim.check == "falls" and back.low > 0:
            evidence += f"; {lower.name} errs more than {upper.name} beyond chance"
            return Outcome(
                claim=claim,
                status="fails",
                evidence=evidence,
                value=back.estimate,
                interval=(back.low, back.high),
                beyond_chance=True,
                **facts,
            )
    if claim.check == "falls" and not bounds:
        evidence += _rises(chain)
    if claim.check == "comparable":
        return near(claim, last.value - first.value, bounds, evidence, **facts)
    return compared(claim, last.value < first.value, last.value - first.value, bounds, evidence, **facts)


def _rises(chain: Sequence[Measured]) -> str:
    """Where a chain that falls from its first net to its last rises on the way; no interval says whether by chance."""
    found = [f"from {upper.name} to {lower.name}" for upper, lower in pairwise(chain) if lower.value > upper.value]
    return f"; it rises {' and '.join(found)}" if found and len(chain) > 2 else ""


def reaches(claim: Claim, inputs: ReportInputs) -> Outcome:
    """The net's error, on the paper's views and for the paper's length, is not above the printed one beyond chance."""
    target = claim.target
    assert target is not None
    if target.dataset != "cifar10" and _views(inputs) != target.views:
        return unmeasured(claim, f"The paper's error is at {target.views}, these are at {_views(inputs)}.")
    net = _full(inputs, claim, claim.metric)
    if net is None:
        return unmeasured(claim, _missing(inputs, claim, 1))
    low, high = wilson(net.errors, net.n)
    paper = claim.paper[target.model] / 100
    return Outcome(
        claim=claim,
        status="holds" if low <= paper else "fails",
        evidence=f"{net} on {count(net.n)} {TOLD[claim.metric]}, 95% interval {interval((low, high))}; the paper {percent(paper)}",
        value=net.value,
        interval=(low, high),
        beyond_chance=not low <= paper <= high,
        runs=len(net.values),
        seeds=net.seeds,
        length=net.steps / PROTOCOLS[inputs.data["name"]].steps,
    )


def _views(inputs: ReportInputs) -> str:
    """Of a test image, as the protocols call them."""
    return (inputs.evaluation.get("data") or {}).get("protocol") or "views that were not recorded"


def bounded(claim: Claim, inputs: ReportInputs) -> Outcome:
    """The net's error is at least, or at most, the paper's bound."""
    ((_, bound),) = claim.paper.items()
    if claim.views and _views(inputs) != claim.views:
        return unmeasured(claim, f"The paper's error is at {claim.views}, these are at {_views(inputs)}.")
    net = _full(inputs, claim, claim.metric) or (_full(inputs, claim, "validation") if claim.metric == "test" else None)
    if net is None:
        return unmeasured(claim, _missing(inputs, claim, 1))
    holds = net.value >= bound / 100 if claim.check == "at_least" else net.value <= bound / 100
    return Outcome(
        claim=claim,
        status="holds" if holds else "fails",
        evidence=f"{net}; the paper's bound is {bound:g}%",
        value=net.value,
        runs=len(net.values),
        seeds=net.seeds,
        length=net.steps / PROTOCOLS[inputs.data["name"]].steps,
    )


def seeds(claim: Claim, inputs: ReportInputs) -> Outcome:
    """As many runs as the paper's: its mean is not below ours beyond the spread of both, its best not below our best's interval."""
    net, wanted = _full(inputs, claim, "test"), int(claim.paper["runs"])
    if net is None or len(net.seeds) < wanted:
        return unmeasured(claim, _missing(inputs, claim, 1) + f" {wanted} seeds of it are needed.")
    n, mean, std = len(net.values), net.value, statistics.stdev(net.values)
    spread = 2 * math.sqrt(std**2 / n + (claim.paper["std"] / 100) ** 2 / claim.paper["runs"])
    paper, best = claim.paper["mean"] / 100, min(net.values)
    low, high = wilson(round(best * net.n), net.n)
    evidence = (
        f"{n} runs: mean {percent(mean)}, standard deviation {points(std).lstrip('+')}, best {percent(best)} ({interval((low, high))}); "
        f"difference of the means {points(mean - paper)} ± {points(spread).lstrip('+')} points"
    )
    return Outcome(
        claim=claim,
        status="holds" if mean - spread <= paper and low <= claim.paper["best"] / 100 else "fails",
        evidence=evidence,
        value=mean,
        interval=(mean - spread, mean + spread),
        beyond_chance=abs(mean - paper) > spread,
        runs=n,
        seeds=net.seeds,
        length=net.steps / PROTOCOLS[inputs.data["name"]].steps,
    )


def cold_start(claim: Claim, inputs: ReportInputs) -> Outcome:
    """Without a warm-up the net errs above the paper's bound past its first two validations, and ends as with one."""
    steps = PROTOCOLS[inputs.data["name"]].steps
    ended = [t for t in _as_the_paper(inputs, claim, "validation") if abs(t.steps / steps - 1) <= 1 - FULL_LENGTH]
    cold, warm = ([t for t in ended if (("warmup", True) in t.recipe) is kind] for kind in (False, True))
    if not cold or not warm:
        return unmeasured(claim, _missing(inputs, claim, 1) + " One run with a warm-up and one without are needed.")
    bound, n = claim.paper["error"] / 100, inputs.data["counts"]["val"]
    started = [series(curve, VAL) for curve in inputs.curves if curve["run_id"] in {t.id for t in cold}]
    above = [next((at for at, (_, e) in enumerate(points) if e < bound), len(points)) for points in started]
    late = int(statistics.median(above))
    ours, theirs = (round(sum(t.value for t in runs) / len(runs) * n) for runs in (cold, warm))
    apart = newcombe(ours, n, theirs, n)
    evidence = (
        f"{cold[0].name} without a warm-up: above {percent(bound)} until validation {late + 1}, {percent(ours / n)} at the "
        f"end; with one {percent(theirs / n)}, mean of {len(warm)} runs; difference {points(apart.estimate)} points, "
        f"95% interval {points(apart.low)} to {points(apart.high)}, on {count(n)} validation images"
    )
    return Outcome(
        claim=claim,
        status="holds" if late >= SEVERAL and apart.low <= 0 else "fails",
        evidence=evidence,
        value=apart.estimate,
        interval=(apart.low, apart.high),
        runs=len(cold) + len(warm),
        seeds=tuple(sorted({t.seed for t in (*cold, *warm) if t.seed is not None})),
        length=cold[0].steps / steps,
    )


def gradients(claim: Claim, inputs: ReportInputs) -> Outcome:
    """In each plain net that was evaluated, no layer's gradient or response is far from the median layer's, at the end of training."""
    protocol = PROTOCOLS.get(inputs.data["name"])
    least = FULL_LENGTH * LEAST * protocol.steps if protocol else math.inf
    long = {name for net in inputs.nets if as_the_paper(net) and net["steps"] >= least for name in ids(net)}
    nets: list[Layers] = [net for net in inputs.responses if net["model"] in claim.nets and ids(net) & long]
    if not nets:
        return unmeasured(
            claim,
            f"Needs a plain net ({', '.join(claim.nets)}) that was trained for an eighth of the paper's iterations at least, and evaluated.",
        )
    told, worst = [], 1.0
    for net in sorted(nets, key=lambda net: net["depth"]):
        shares = []
        for signal in (net["gradient"], net["std"]):
            middle = statistics.median(signal)
            low, high = (of(signal) / middle if middle else 0.0 for of in (min, max))
            worst = max(worst, high, math.inf if low == 0 else 1 / low)
            shares.append(f"{low:.2g} to {high:.2g}")
        told.append(f"{short_name(net)} {shares[0]} and {shares[1]}")
    return Outcome(
        claim=claim,
        status="holds" if worst <= HEALTHY else "fails",
        evidence="At the end of training, a layer's gradient (its norm) and response (its standard deviation) over the median "
        f"layer's: {', '.join(told)}; healthy within a factor of {HEALTHY:g}",
        value=worst if math.isfinite(worst) else None,
        runs=len(nets),
        seeds=tuple(sorted({net["seed"] for net in nets if net["seed"] is not None})),
    )


def not_public(claim: Claim, inputs: ReportInputs) -> Outcome:
    ours = inputs.ensemble and inputs.ensemble["test_err5"]
    here = f" Our ensemble has {percent(ours)} on the validation images." if ours is not None else ""
    return unmeasured(claim, f"The labels of the test server's images are not public.{here}")


CHECKS: dict[str, Callable[[Claim, ReportInputs], Outcome]] = {
    "ensemble_gain": ensemble_gain,
    "falls": compare_nets,
    "comparable": compare_nets,
    "reaches": reaches,
    "at_least": bounded,
    "at_most": bounded,
    "seeds": seeds,
    "cold_start": cold_start,
    "gradients": gradients,
    "not_public": not_public,
}


def _at(
    inputs: ReportInputs,
    found: Sequence[Training],
    metric: Metric,
    steps: int,
    speaking: Callable[..., dict[str, Measured]] = at_length,
) -> dict[str, Measured]:
    n = inputs.data["counts"].get(IMAGES[metric], 0) if metric in IMAGES else 0
    if metric in IMAGES and not n:
        return {}
    return speaking(found, steps, n, steps >= PROTOCOLS[inputs.data["name"]].steps)


def _full(inputs: ReportInputs, claim: Claim, metric: Metric) -> Measured | None:
    """The claim's one net, trained for the paper's length by its recipe."""
    found = _as_the_paper(inputs, claim, metric)
    return _at(inputs, found, metric, PROTOCOLS[inputs.data["name"]].steps).get(claim.nets[0])


def _as_the_paper(inputs: ReportInputs, claim: Claim, metric: Metric) -> list[Training]:
    """Trainings of the claim's nets at the paper's learning rate and by its recipe, of any length."""
    protocol = PROTOCOLS[inputs.data["name"]]
    found = [t for t in trainings(inputs, metric) if t.model in claim.nets and t.lr in (None, protocol.lr)]
    return [t for t in found if protocol.follows({key: value for key, value in t.recipe if key != "warmup"})]


def _missing(inputs: ReportInputs, claim: Claim, wanted: int) -> str:
    """What would have to be trained, and what shorter runs have shown so far."""
    found: dict[str, tuple[Training, Metric]] = {}
    metrics: Sequence[Metric] = ("validation", "test") if claim.metric == "test" else (claim.metric,)
    for metric in metrics:
        for training in trainings(inputs, metric):
            if training.model in claim.nets:
                known = found.get(training.model)
                if not known or known[1] != metric or training.steps > known[0].steps:
                    found[training.model] = (training, metric)
    short = []
    for model in claim.nets:
        if model in found:
            training, metric = found[model]
            value = f"{training.value:.3f}" if metric == "responses" else percent(training.value)
            split = "" if metric in ("test", "top5", "responses") else f" on {TOLD[metric]}"
            short.append(f"{training.name} {value}{split} after {count(training.steps)}")
    so_far = f" So far: {', '.join(short)}." if short else ""
    paper = PROTOCOLS[inputs.data["name"]].steps
    what = claim.nets[0] if wanted == 1 else f"two of {', '.join(claim.nets)}"
    length = f"the paper's {count(paper)} iterations"
    if claim.length:
        length = f"{count(round(claim.length * paper))} iterations"
    elif wanted > 1:
        length += ", or both for an eighth of them at least"
    return f"Needs {what} trained for {length}.{so_far}"
