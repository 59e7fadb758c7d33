"""How each kind of claim is checked against trainings. Verdicts are computed from the inputs, never typed.

A comparison is decided by its estimate and needs nets that trained equally long, for at least an eighth of the paper's
steps. A published error needs nets trained for the paper's steps; it is reached unless our whole interval lies above it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from pipeline.evaluation.intervals import newcombe, wilson
from pipeline.record import Net
from pipeline.report.claims import Outcome, applies, compared, near, unmeasured, verdict
from pipeline.report.counts import COUNTS
from pipeline.report.inputs import VAL, ReportInputs, as_the_paper, ids, recipe_of
from pipeline.report.markdown import count, interval, percent, points
from pipeline.report.paper import CLAIMS, PROTOCOLS, Claim, Metric
from pipeline.report.trainings import (
    FULL_LENGTH,
    IMAGES,
    LEAST,
    ON,
    Measured,
    Training,
    at_length,
    lengths,
    missing,
    side_by_side,
    trainings,
)

# A gradient is healthy within this factor of the median layer's. Vanished ones are many orders of magnitude smaller:
# without batch norm, each layer multiplies them by a factor.
HEALTHY = 100.0
SEVERAL = 2  # validations, each after an epoch or more


def assess(inputs: ReportInputs) -> list[Outcome]:
    """Every claim of the paper, in its order."""
    made_by = inputs.provenance.get("commands", {}).get("the whole experiment", "")
    outcomes = [_assess(claim, inputs) for claim in CLAIMS]
    return [replace(outcome, command=made_by) if outcome.runs else outcome for outcome in outcomes]


def _assess(claim: Claim, inputs: ReportInputs) -> Outcome:
    if claim.check in COUNTS:
        return COUNTS[claim.check](claim)
    if not applies(claim, inputs.data["name"]):
        where = PROTOCOLS[claim.dataset].title
        return unmeasured(claim, f"The paper makes this claim on {where}; these runs are on {inputs.data['name']}.")
    return CHECKS[claim.check](claim, inputs)


def ensemble_gain(claim: Claim, inputs: ReportInputs) -> Outcome:
    """The ensemble against the best member on validation, or the hardest to beat of all, on the same test images."""
    ensemble, top5 = inputs.ensemble, claim.metric == "top5"
    if ensemble is None or ensemble["size"] < 2:
        return unmeasured(claim, "No ensemble of two members or more was evaluated.")
    rival = inputs.rival("5" if top5 else "")
    if rival is None:
        return unmeasured(claim, "No member has a validation error, and `pipeline evaluate` has to compare each anew.")
    best, gain = rival
    ours = ensemble["test_err5"] if top5 else ensemble["test_err1"]
    theirs = best.test_err5 if top5 else best.test_err1
    if ours is None or theirs is None:
        return unmeasured(claim, "No top-5 error was measured.")
    difference = gain["estimate"] if gain else ours - theirs
    bounds = (float(gain["ci95"][0]), float(gain["ci95"][1])) if gain else None
    evidence = (
        f"On {inputs.data['name']}, {ensemble['size']} nets: ensemble {percent(ours)}, "
        f"{'best member' if inputs.best_member else 'of its members, the hardest to beat is'} {best.name} {percent(theirs)}"
    )
    return compared(claim, difference, bounds, evidence, runs=ensemble["size"], seeds=_seeds(inputs.members))


def compare_nets(claim: Claim, inputs: ReportInputs) -> Outcome:
    """Compares the first of the claim's nets that were measured with the last, at equal lengths of training.

    falls: the last has the smaller value. comparable: their errors differ by no more than the claim's margin.
    """
    order: Sequence[Metric] = ("test", "validation") if claim.metric == "test" else (claim.metric,)
    for metric in order:
        runs = [t for t in trainings(inputs, metric) if t.net.name in claim.nets]
        for steps in lengths(runs, inputs.data["name"], claim.length):
            measured = _at(inputs, runs, metric, steps, side_by_side)
            chain = [measured[name] for name in claim.nets if name in measured]
            if len(chain) >= 2:
                return _pair(claim, inputs, chain, metric)
    return unmeasured(claim, missing(inputs, claim, 2))


def _pair(claim: Claim, inputs: ReportInputs, chain: list[Measured], metric: Metric) -> Outcome:
    first, last = chain[0], chain[-1]
    facts = _behind(inputs, *chain)
    evidence, difference = ", ".join(map(str, chain)), last.value - first.value
    if metric == "responses":
        return verdict(claim, difference < 0, evidence + _rises(chain), value=difference, **facts)
    evidence += f" on {count(last.n)} {ON[metric]}"
    if IMAGES[metric] == "train":
        # No interval: each step counts other images, and the net changes while they are counted.
        evidence += _rises(chain) if claim.check == "falls" else ""
        return (near if claim.check == "comparable" else compared)(claim, difference, None, evidence, **facts)
    for upper, lower in pairwise(chain if claim.check == "falls" else ()):
        back = newcombe(lower.errors, lower.n, upper.errors, upper.n)
        if back.low > 0:
            evidence += f"; {lower.name} errs more than {upper.name} beyond chance"
            bounds = {"interval": (back.low, back.high), "beyond_chance": True}
            return verdict(claim, False, evidence, value=back.estimate, **bounds, **facts)
    apart = newcombe(last.errors, last.n, first.errors, first.n)
    return (near if claim.check == "comparable" else compared)(claim, difference, apart[1:], evidence, **facts)


def _behind(inputs: ReportInputs, *nets: Measured) -> dict[str, Any]:
    """Runs, seeds and length behind a verdict on these nets."""
    return {
        "runs": sum(len(net.values) for net in nets),
        "seeds": tuple(sorted({seed for net in nets for seed in net.seeds})),
        "length": min(net.steps for net in nets) / PROTOCOLS[inputs.data["name"]].steps,
    }


def _rises(chain: Sequence[Measured]) -> str:
    """Where a chain that falls from its first net to its last rises in between; no interval judges such a rise."""
    rises = [f"from {upper.name} to {lower.name}" for upper, lower in pairwise(chain) if lower.value > upper.value]
    return f"; it rises {' and '.join(rises)}" if rises and len(chain) > 2 else ""


def reaches(claim: Claim, inputs: ReportInputs) -> Outcome:
    """The net's error, at the paper's views and length, does not exceed the printed one beyond chance."""
    target = claim.target
    assert target is not None
    if target.dataset != "cifar10" and _views(inputs) != target.views:
        return unmeasured(claim, f"The paper's error is at {target.views}; these are at {_views(inputs)}.")
    net = _full(inputs, claim, claim.metric)
    if net is None:
        return unmeasured(claim, missing(inputs, claim, 1))
    low, high = wilson(net.errors, net.n)
    paper = claim.paper[target.net] / 100
    evidence = (
        f"{net} on {count(net.n)} {ON[claim.metric]}, 95% interval {interval((low, high))}; the paper {percent(paper)}"
    )
    bounds = {"interval": (low, high), "beyond_chance": not low <= paper <= high}
    return verdict(claim, low <= paper, evidence, value=net.value, **bounds, **_behind(inputs, net))


def _views(inputs: ReportInputs) -> str:
    """Views of a test image, by the protocols' names."""
    return inputs.views or "unrecorded views"


def bounded(claim: Claim, inputs: ReportInputs) -> Outcome:
    """The net's error is at least, or at most, the paper's bound."""
    ((_, bound),) = claim.paper.items()
    if claim.views and _views(inputs) != claim.views:
        return unmeasured(claim, f"The paper's error is at {claim.views}; these are at {_views(inputs)}.")
    net = _full(inputs, claim, claim.metric) or (_full(inputs, claim, "validation") if claim.metric == "test" else None)
    if net is None:
        return unmeasured(claim, missing(inputs, claim, 1))
    holds = net.value >= bound / 100 if claim.check == "at_least" else net.value <= bound / 100
    return verdict(claim, holds, f"{net}; the paper's bound is {bound:g}%", value=net.value, **_behind(inputs, net))


def seeds(claim: Claim, inputs: ReportInputs) -> Outcome:
    """As many runs as the paper's. Its mean is not below ours beyond the spread of both; its best lies not below our best's interval."""
    net, wanted = _full(inputs, claim, "test"), int(claim.paper["runs"])
    if net is None or len(net.seeds) < wanted:
        return unmeasured(claim, missing(inputs, claim, 1) + f" {wanted} seeds of it are needed.")
    n, mean, std = len(net.values), net.value, statistics.stdev(net.values)
    spread = 2 * math.sqrt(std**2 / n + (claim.paper["std"] / 100) ** 2 / claim.paper["runs"])
    paper, best = claim.paper["mean"] / 100, min(net.values)
    low, high = wilson(round(best * net.n), net.n)
    evidence = (
        f"{n} runs: mean {percent(mean)}, standard deviation {points(std).lstrip('+')}, best {percent(best)} ({interval((low, high))}); "
        f"difference of the means {points(mean - paper)} ± {points(spread).lstrip('+')} points"
    )
    holds = mean - spread <= paper and low <= claim.paper["best"] / 100
    bounds = {"interval": (mean - spread, mean + spread), "beyond_chance": abs(mean - paper) > spread}
    return verdict(claim, holds, evidence, value=mean, **bounds, **_behind(inputs, net))


def cold_start(claim: Claim, inputs: ReportInputs) -> Outcome:
    """Without a warm-up, the error exceeds the paper's bound beyond two validations and ends no higher than with one."""
    steps = PROTOCOLS[inputs.data["name"]].steps
    ended = [t for t in _as_the_paper(inputs, claim, "validation") if abs(t.steps / steps - 1) <= 1 - FULL_LENGTH]
    cold, warm = ([t for t in ended if t.warm_up is kind] for kind in (False, True))
    if not cold or not warm:
        return unmeasured(claim, missing(inputs, claim, 1) + " One run with a warm-up and one without are needed.")
    bound, n = claim.paper["error"] / 100, inputs.data["counts"]["val"]
    cold_ids = {name for training in cold for name in ids(training.net)}
    started = [curve.series(VAL) for curve in inputs.curves if ids(curve.net) & cold_ids]
    above = [next((at for at, (_, e) in enumerate(points) if e < bound), len(points)) for points in started]
    late = int(statistics.median(above))
    ours, theirs = (round(sum(t.value for t in runs) / len(runs) * n) for runs in (cold, warm))
    apart = newcombe(ours, n, theirs, n)
    evidence = (
        f"{cold[0].net.name} without a warm-up: above {percent(bound)} until validation {late + 1}, {percent(ours / n)} at the "
        f"end; with one {percent(theirs / n)}, mean of {len(warm)} runs; difference {points(apart.estimate)} points, "
        f"95% interval {points(apart.low)} to {points(apart.high)}, on {count(n)} validation images"
    )
    return verdict(
        claim,
        late >= SEVERAL and apart.low <= 0,
        evidence,
        value=apart.estimate,
        interval=(apart.low, apart.high),
        runs=len(cold) + len(warm),
        seeds=_seeds(training.net for training in (*cold, *warm)),
        length=cold[0].steps / steps,
    )


def _seeds(nets: Iterable[Net]) -> tuple[int, ...]:
    return tuple(sorted({net.seed for net in nets if net.seed is not None}))


def gradients(claim: Claim, inputs: ReportInputs) -> Outcome:
    """In each evaluated plain net, every layer's gradient and response is near the median layer's at the end of training."""
    protocol = PROTOCOLS.get(inputs.data["name"])
    least = FULL_LENGTH * LEAST * protocol.steps if protocol else math.inf
    nets = [layers for layers in inputs.layers if layers.net.name in claim.nets]
    nets = [layers for layers in nets if as_the_paper(layers.net) and layers.net.steps >= least]
    if not nets:
        return unmeasured(
            claim,
            f"Needs an evaluated plain net ({', '.join(claim.nets)}) that trained for at least an eighth of the paper's steps.",
        )
    ranges, worst = [], 1.0
    for layers in sorted(nets, key=lambda layers: layers.net.model.depth):
        shares = []
        for signal in (layers.gradient, layers.std):
            middle = statistics.median(signal)
            low, high = (end(signal) / middle if middle else 0.0 for end in (min, max))
            worst = max(worst, high, math.inf if low == 0 else 1 / low)
            shares.append(f"{low:.2g} to {high:.2g}")
        ranges.append(f"{layers.net.name} {shares[0]} and {shares[1]}")
    evidence = (
        "At the end of training, a layer's gradient (its norm) and response (its standard deviation) over the median "
        f"layer's: {', '.join(ranges)}; healthy within a factor of {HEALTHY:g}"
    )
    value = worst if math.isfinite(worst) else None
    return verdict(claim, worst <= HEALTHY, evidence, value=value, runs=len(nets), seeds=_seeds(n.net for n in nets))


def not_public(claim: Claim, inputs: ReportInputs) -> Outcome:
    ours = inputs.ensemble["test_err5"] if inputs.ensemble else None
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
    runs: Sequence[Training],
    metric: Metric,
    steps: int,
    choose: Callable[..., dict[str, Measured]] = at_length,
) -> dict[str, Measured]:
    n = inputs.data["counts"].get(IMAGES[metric], 0) if metric in IMAGES else 0
    if metric in IMAGES and not n:
        return {}
    return choose(runs, steps, n, steps >= PROTOCOLS[inputs.data["name"]].steps)


def _full(inputs: ReportInputs, claim: Claim, metric: Metric) -> Measured | None:
    """The claim's single net, trained for the paper's length by its recipe."""
    runs = _as_the_paper(inputs, claim, metric)
    return _at(inputs, runs, metric, PROTOCOLS[inputs.data["name"]].steps).get(claim.nets[0])


def _as_the_paper(inputs: ReportInputs, claim: Claim, metric: Metric) -> list[Training]:
    """Trainings of the claim's nets at the paper's learning rate and by its recipe, of any length."""
    protocol = PROTOCOLS[inputs.data["name"]]
    runs = [t for t in trainings(inputs, metric) if t.net.name in claim.nets and t.net.lr in (None, protocol.lr)]
    return [t for t in runs if protocol.follows(recipe_of(t.net))]
