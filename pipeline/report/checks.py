"""How each kind of claim is checked against trainings. Verdicts are computed from the inputs, never typed.

A comparison needs nets that trained equally long, for at least an eighth of the paper's steps. A published error needs
nets trained for the paper's steps; it is reached where our interval ends below it or within the protocol's margin.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from pipeline.evaluation.estimates import Estimate, Z, between_runs, between_runs_of_one
from pipeline.evaluation.intervals import newcombe, wilson
from pipeline.record import Net
from pipeline.report.claims import (
    BELOW_ZERO,
    Bounds,
    Outcome,
    applies,
    corrected,
    difference_text,
    exact,
    judged,
    unmeasured,
)
from pipeline.report.counts import COUNTS
from pipeline.report.inputs import VAL, ReportInputs, as_the_paper, ids, recipe_of
from pipeline.report.markdown import count, interval, percent, points
from pipeline.report.paper import CLAIMS, PROTOCOLS, Claim, Metric
from pipeline.report.trainings import (
    COUNTED,
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
FEWEST_CLASSES = 50  # for a top-5 error: five guesses at random miss nine images of ten


def assess(inputs: ReportInputs) -> list[Outcome]:
    """Every claim of the paper, in its order."""
    made_by = inputs.provenance.get("commands", {}).get("the whole experiment", "")
    outcomes = corrected([_assess(claim, inputs) for claim in CLAIMS])
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
    ensemble, top5, classes = inputs.ensemble, claim.metric == "top5", len(inputs.data["classes"])
    if ensemble is None or ensemble["size"] < 2:
        return unmeasured(claim, "No ensemble of two members or more was evaluated.")
    if top5 and classes < FEWEST_CLASSES:
        return unmeasured(claim, f"A top-5 error of {classes} classes says little; {FEWEST_CLASSES} are needed.")
    best, gain = inputs.rival("5" if top5 else "") or (None, None)
    if best is None or gain is None:
        return unmeasured(claim, "The ensemble was not compared with its members; `pipeline evaluate` does so.")
    ours, theirs = (net["test_err5" if top5 else "test_err1"] for net in (ensemble, best.to_json()))
    estimate = Estimate(gain["estimate"], (gain["ci95"][0], gain["ci95"][1]), inputs.num_test)
    evidence = (
        f"On {inputs.data['name']}, {ensemble['size']} nets: ensemble {percent(ours)}, "
        f"{'best member' if inputs.best_member else 'of its members, the hardest to beat is'} {best.name} "
        f"{percent(theirs)}; {difference_text(estimate)}"
    )
    return judged(claim, estimate, BELOW_ZERO, evidence, runs=ensemble["size"], seeds=_seeds(inputs.members))


def compare_nets(claim: Claim, inputs: ReportInputs) -> Outcome:
    """Compares the first of the claim's nets that were measured with the last, at equal lengths of training.

    falls: the last has the smaller value. comparable: their errors differ by no more than the claim's margin. gains: the
    last errs less by the paper's number of points, within the margin.
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
    evidence = ", ".join(map(str, chain))
    if metric == "responses":
        estimate = Estimate(last.value - first.value, seeds=between_runs(last.values, first.values, None))
        return judged(claim, estimate, BELOW_ZERO, evidence + _rises(chain), **facts)
    known = PROTOCOLS[inputs.data["name"]].seed_std / 100
    evidence += f" on {count(last.n)} {ON[metric]}"
    for upper, lower in pairwise(chain if claim.check == "falls" else ()):
        back = difference(lower, upper, known)
        if len(chain) > 2 and back.interval and back.interval[0] > 0:
            evidence += f"; {lower.name} errs more than {upper.name}: {difference_text(back)}"
            return judged(claim, back, BELOW_ZERO, evidence, **facts)
    apart = difference(last, first, known)
    evidence += f"; {difference_text(apart)}" + (_rises(chain) if claim.check == "falls" else "")
    region, margin = BELOW_ZERO, claim.margin / 100
    if claim.check != "falls":
        middle = -claim.paper["gain"] / 100 if claim.check == "gains" else 0.0
        region = (middle - margin, middle + margin)
        near = f"{points(middle)} ± {claim.margin:g}" if middle else f"at most {claim.margin:g} either way"
        evidence += f"; the claim: {near} points"
    return judged(claim, apart, region, evidence, **facts)


def difference(a: Measured, b: Measured, known_std: float) -> Estimate:
    """Error of a minus error of b, counted on images of the same kind.

    Args:
        known_std: standard deviation between seeds, where a or b has a single run.
    """
    apart = newcombe(a.errors, a.n, b.errors, b.n)
    seeds = between_runs(a.values, b.values, known_std)
    return Estimate(a.value - b.value, (apart.low, apart.high), a.n, seeds, min(len(a.values), len(b.values)))


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
    """The net's error, at the paper's views and length, exceeds the printed one by no more than the protocol's margin."""
    target = claim.target
    assert target is not None
    if target.dataset != "cifar10" and _views(inputs) != target.views:
        return unmeasured(claim, f"The paper's error is at {target.views}; these are at {_views(inputs)}.")
    net = _full(inputs, claim, claim.metric)
    if net is None:
        return unmeasured(claim, missing(inputs, claim, 1))
    margin, paper = PROTOCOLS[target.dataset].margin / 100, claim.paper[target.net] / 100
    estimate = error_of(net)
    evidence = (
        f"{net} on {count(net.n)} {ON[claim.metric]}, {_interval_text(estimate)}; the paper {percent(paper)}, "
        f"reached up to {100 * margin:g} points above it"
    )
    return judged(claim, estimate, (-math.inf, paper + margin), evidence, **_behind(inputs, net))


def error_of(net: Measured) -> Estimate:
    """Its error; over seeds where it has several runs."""
    return Estimate(net.value, wilson(net.errors, net.n), net.n, between_runs_of_one(net.values), len(net.values))


def _interval_text(estimate: Estimate) -> str:
    return f"95% interval {interval(estimate.interval)} over {estimate.over}"


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
    region: Bounds = (bound / 100, math.inf) if claim.check == "at_least" else (-math.inf, bound / 100)
    estimate = error_of(net)
    evidence = f"{net}, {_interval_text(estimate)}; the paper's bound is {bound:g}%"
    return judged(claim, estimate, region, evidence, **_behind(inputs, net))


def seeds(claim: Claim, inputs: ReportInputs) -> Outcome:
    """As many runs as the paper's, whose mean exceeds the paper's by no more than the protocol's margin."""
    net, wanted = _full(inputs, claim, "test"), int(claim.paper["runs"])
    if net is None or len(net.seeds) < wanted:
        return unmeasured(claim, missing(inputs, claim, 1) + f" {wanted} seeds of it are needed.")
    n, std, margin = len(net.values), statistics.stdev(net.values), PROTOCOLS[claim.dataset].margin
    theirs = Z * claim.paper["std"] / 100 / math.sqrt(claim.paper["runs"])
    spread = math.hypot(between_runs_of_one(net.values) or 0.0, theirs)
    apart = Estimate(net.value - claim.paper["mean"] / 100, seeds=spread, runs=n)
    evidence = (
        f"{n} runs: mean {percent(net.value)}, standard deviation {points(std).lstrip('+')}, best {percent(min(net.values))}; "
        f"from the paper's mean {difference_text(apart)}; reached up to {margin:g} points above it"
    )
    return judged(claim, apart, (-math.inf, margin / 100), evidence, **_behind(inputs, net))


def cold_start(claim: Claim, inputs: ReportInputs) -> Outcome:
    """Without a warm-up, the error exceeds the paper's bound beyond two validations and ends as with one, within the margin."""
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
    ours, theirs = (_measured_by(runs, n) for runs in (cold, warm))
    protocol = PROTOCOLS[inputs.data["name"]]
    apart = difference(ours, theirs, protocol.seed_std / 100)
    evidence = (
        f"{cold[0].net.name} without a warm-up: above {percent(bound)} until validation {late + 1}, {percent(ours.value)} at the "
        f"end; with one {percent(theirs.value)}, mean of {len(warm)} runs; {difference_text(apart)}, on {count(n)} "
        f"validation images; alike up to {protocol.margin:g} points above"
    )
    facts = {
        "runs": len(cold) + len(warm),
        "seeds": _seeds(training.net for training in (*cold, *warm)),
        "length": cold[0].steps / steps,
    }
    if late < SEVERAL:
        return exact(claim, False, evidence, value=apart.value, **facts)
    return judged(claim, apart, (-math.inf, protocol.margin / 100), evidence, **facts)


def _measured_by(runs: Sequence[Training], n: int) -> Measured:
    values = tuple(training.value for training in runs)
    return Measured(runs[0].net.name, sum(values) / len(values), values, n, runs[0].steps, full=False)


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
    return exact(claim, worst <= HEALTHY, evidence, value=value, runs=len(nets), seeds=_seeds(n.net for n in nets))


def not_public(claim: Claim, inputs: ReportInputs) -> Outcome:
    ours = inputs.ensemble["test_err5"] if inputs.ensemble else None
    here = f" Our ensemble has {percent(ours)} on the validation images." if ours is not None else ""
    return unmeasured(claim, f"The labels of the test server's images are not public.{here}")


CHECKS: dict[str, Callable[[Claim, ReportInputs], Outcome]] = {
    "ensemble_gain": ensemble_gain,
    "falls": compare_nets,
    "comparable": compare_nets,
    "gains": compare_nets,
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
    if metric in COUNTED and runs and (recipe := runs[0].net.recipe):
        n = min(n, round(COUNTED[metric] * steps * recipe.batch_size))
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
