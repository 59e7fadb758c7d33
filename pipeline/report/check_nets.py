"""Checks of nets by their errors at the end of training: against each other, and against the paper's numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

from pipeline.evaluation.estimates import Estimate, Z, between_runs, between_runs_of_one
from pipeline.evaluation.intervals import newcombe, wilson
from pipeline.report.claims import ALPHA, BELOW_ZERO, Bounds, Outcome, difference_text, judged, unmeasured
from pipeline.report.inputs import ReportInputs
from pipeline.report.markdown import count, interval, percent, points
from pipeline.report.paper import PROTOCOLS, Claim, Metric
from pipeline.report.trainings import (
    ON,
    Measured,
    at_full_length,
    behind,
    lengths,
    measured_at,
    missing,
    side_by_side,
    trainings,
)


def compare_nets(claim: Claim, inputs: ReportInputs) -> Outcome:
    """Compares the first of the claim's nets that were measured with the last, at equal lengths of training.

    falls: the last has the smaller value. comparable: their errors differ by no more than the claim's margin. gains: the
    last errs less by the paper's number of points, within the margin.
    """
    order: Sequence[Metric] = ("test", "validation") if claim.metric == "test" else (claim.metric,)
    for metric in order:
        runs = [t for t in trainings(inputs, metric) if t.net.name in claim.nets]
        for steps in lengths(runs, inputs.data["name"], claim.length):
            measured = measured_at(inputs, runs, metric, steps, side_by_side)
            chain = [measured[name] for name in claim.nets if name in measured]
            if len(chain) >= 2:
                return _pair(claim, inputs, chain, metric)
    return unmeasured(claim, missing(inputs, claim, 2))


def _pair(claim: Claim, inputs: ReportInputs, chain: list[Measured], metric: Metric) -> Outcome:
    first, last = chain[0], chain[-1]
    facts = behind(inputs, *chain)
    evidence = ", ".join(map(str, chain))
    if metric == "responses":
        estimate = Estimate(last.value - first.value, seeds=between_runs(last.values, first.values, None))
        return judged(claim, estimate, BELOW_ZERO, evidence + _rises(chain), **facts)
    spread = seed_std(inputs)
    evidence += f" on {count(last.n)} {ON[metric]}"
    for upper, lower in pairwise(chain if claim.check == "falls" and len(chain) > 2 else ()):
        back = difference(lower, upper, spread)
        p = back.p(back.value) * (len(chain) - 1)  # as many pairs are looked at (Bonferroni)
        if back.value > 0 and p < ALPHA:
            evidence += f"; {lower.name} errs more than {upper.name}: {difference_text(back)}"
            return judged(claim, back, BELOW_ZERO, evidence, p=p, **facts)
    apart = difference(last, first, spread)
    evidence += f"; {difference_text(apart)}" + (_rises(chain) if claim.check == "falls" else "")
    region, margin = BELOW_ZERO, claim.margin / 100
    if claim.check != "falls":
        middle = -claim.paper["gain"] / 100 if claim.check == "gains" else 0.0
        region = (middle - margin, middle + margin)
        near = f"{points(middle)} ± {claim.margin:g}" if middle else f"at most {claim.margin:g} either way"
        evidence += f"; the claim: {near} points"
    return judged(claim, apart, region, evidence, **facts)


def difference(a: Measured, b: Measured, assumed_std: float) -> Estimate:
    """Error of a minus error of b, counted on images of the same kind.

    Args:
        assumed_std: standard deviation between seeds, where a or b has a single run.
    """
    apart = newcombe(a.errors, a.n, b.errors, b.n)
    return Estimate(a.value - b.value, (apart.low, apart.high), a.n, between_runs(a.values, b.values, assumed_std))


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
    net = at_full_length(inputs, claim, claim.metric)
    if net is None:
        return unmeasured(claim, missing(inputs, claim, 1))
    margin, paper = PROTOCOLS[target.dataset].margin / 100, claim.paper[target.net] / 100
    estimate = error_of(net, inputs, claim.metric)
    evidence = (
        f"{net} on {count(net.n)} {ON[claim.metric]}, {_interval_text(estimate)}; the paper {percent(paper)}, "
        f"reached up to {100 * margin:g} points above it"
    )
    return judged(claim, estimate, (-math.inf, paper + margin), evidence, **behind(inputs, net))


def error_of(net: Measured, inputs: ReportInputs, metric: Metric) -> Estimate:
    """Its error; a spread of single runs is assumed for errors on images that nothing was trained on."""
    std = seed_std(inputs) if metric in ("test", "top5", "validation") else None
    return Estimate(net.value, wilson(net.errors, net.n), net.n, between_runs_of_one(net.values, std))


def seed_std(inputs: ReportInputs) -> float:
    """Standard deviation of an error between seeds, a fraction, assumed from other runs; for single runs."""
    return PROTOCOLS[inputs.data["name"]].seed_std / 100


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
    order: Sequence[Metric] = ("test", "validation") if claim.metric == "test" else (claim.metric,)
    measured = ((metric, at_full_length(inputs, claim, metric)) for metric in order)
    metric, net = next(((metric, net) for metric, net in measured if net), (claim.metric, None))
    if net is None:
        return unmeasured(claim, missing(inputs, claim, 1))
    region: Bounds = (bound / 100, math.inf) if claim.check == "at_least" else (-math.inf, bound / 100)
    estimate = error_of(net, inputs, metric)
    evidence = f"{net} on {count(net.n)} {ON[metric]}, {_interval_text(estimate)}; the paper's bound is {bound:g}%"
    return judged(claim, estimate, region, evidence, **behind(inputs, net))


def seeds(claim: Claim, inputs: ReportInputs) -> Outcome:
    """As many runs as the paper's, whose mean exceeds the paper's by no more than the protocol's margin."""
    net, wanted = at_full_length(inputs, claim, "test"), int(claim.paper["runs"])
    if net is None or len(net.seeds) < wanted:
        return unmeasured(claim, missing(inputs, claim, 1) + f" {wanted} seeds of it are needed.")
    n, std, margin = len(net.values), statistics.stdev(net.values), PROTOCOLS[claim.dataset].margin
    theirs = Z * claim.paper["std"] / 100 / math.sqrt(claim.paper["runs"])
    ours = between_runs_of_one(net.values, None)
    apart = Estimate(net.value - claim.paper["mean"] / 100, seeds=ours, fixed=theirs)
    evidence = (
        f"{n} runs: mean {percent(net.value)}, standard deviation {points(std).lstrip('+')}, best {percent(min(net.values))}; "
        f"from the paper's mean {difference_text(apart)}; reached up to {margin:g} points above it"
    )
    return judged(claim, apart, (-math.inf, margin / 100), evidence, **behind(inputs, net))
