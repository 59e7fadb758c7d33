"""Checks of the course of training: at its start, throughout, and the layers' signals at its end."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from pipeline.report.check_nets import difference, seed_std
from pipeline.report.claims import ALPHA, Outcome, difference_text, exact, judged, unmeasured
from pipeline.report.curve import EARLY_TRAIN, TRAIN, VAL
from pipeline.report.inputs import ReportInputs
from pipeline.report.markdown import count, percent, plural
from pipeline.report.paper import PROTOCOLS, Claim
from pipeline.report.trainings import (
    FULL_LENGTH,
    LEAST,
    Measured,
    Training,
    behind_runs,
    by_the_papers_recipe,
    images_of,
    lengths,
    mean_of,
    missing,
    of_length,
    one_per_seed,
    seeds_of,
)
from pipeline.report.traits import as_the_paper, ids

# A gradient is healthy within this factor of the median layer's. Vanished ones are many orders of magnitude smaller:
# without batch norm, each layer multiplies them by a factor.
HEALTHY = 100.0
SEVERAL = 2  # epochs


def throughout(claim: Claim, inputs: ReportInputs) -> Outcome:
    """The first net's training error exceeds the last one's in every part of the training.

    It holds where all parts do, by more than chance in their mean. It fails where a part shows the opposite beyond chance, by
    the part's images and the spread of seeds, at that part's share of the level (Bonferroni).
    """
    runs = by_the_papers_recipe(inputs, claim, "train")
    paper = PROTOCOLS[inputs.data["name"]].steps
    for steps in lengths(runs, inputs.data["name"], claim.length):
        best = {t.net.name: t for t in sorted(of_length(runs, steps, steps >= paper), key=lambda t: -t.val)}
        pair = [best[name] for name in claim.nets if name in best]
        if len(pair) == 2:
            return _in_every_part(claim, inputs, pair)
    return unmeasured(claim, missing(inputs, claim, 2))


def _in_every_part(claim: Claim, inputs: ReportInputs, pair: Sequence[Training]) -> Outcome:
    deep, shallow = (next(c for c in inputs.curves if ids(c.net) & ids(training.net)).by_part() for training in pair)
    n = images_of(inputs, "train", pair)
    apart = [
        difference(_part(pair[0], one, n), _part(pair[1], other, n), seed_std(inputs))
        for one, other in zip(deep, shallow, strict=True)
        if one is not None and other is not None
    ]
    higher = sum(part.value > 0 for part in apart)
    lower = sum(part.value < 0 and part.p(-part.value) * len(apart) < ALPHA for part in apart)
    evidence = f"{pair[0].net.name} has the higher training error in {higher} of {len(apart)} parts of the training"
    evidence += f", the lower one beyond chance in {lower}"
    # Parts of one training go together, so that all of them may be higher by the luck of two seeds.
    mean = sum(part.value for part in apart) / max(1, len(apart))
    if (apart and higher == len(apart) and apart[-1].p(mean) < ALPHA) or lower:
        return exact(claim, not lower, evidence, **behind_runs(inputs, pair))
    return Outcome(claim=claim, status="inconclusive", evidence=evidence, **behind_runs(inputs, pair))


def _part(training: Training, error: float, n: int) -> Measured:
    return mean_of([training._replace(value=error)], n)


def warm_up(claim: Claim, inputs: ReportInputs) -> Outcome:
    """The training error of runs with a warm-up falls below the bound within a factor of 2 of the paper's steps."""
    bound, printed = claim.paper["error"] / 100, claim.paper["steps"]
    runs = by_the_papers_recipe(inputs, claim, "train")
    warm = {name for t in runs if t.net.recipe and t.net.recipe.warmup_lr == claim.paper["lr"] for name in ids(t.net)}
    curves = [curve for curve in inputs.curves if ids(curve.net) & warm]
    if not curves:
        return unmeasured(
            claim, missing(inputs, claim, 1) + f" A run with a warm-up at {claim.paper['lr']:g} is needed."
        )
    # A published curve has the first steps point by point, and means over windows, which count after these alone.
    starts = [
        [*(first := curve.series(EARLY_TRAIN)), *(p for p in curve.series(TRAIN) if not first or p[0] > first[-1][0])]
        for curve in curves
    ]
    steps = statistics.median(next((step for step, error in start if error < bound), math.inf) for start in starts)
    ended = math.isfinite(steps)
    when = f"after {count(steps)} steps" if ended else "at no step"
    evidence = f"Below {percent(bound)} {when}, median of {plural(len(curves), 'run')}; within a factor of 2"
    facts = {"runs": len(curves), "seeds": seeds_of(curve.net for curve in curves)}
    return exact(claim, printed / 2 <= steps <= printed * 2, evidence, value=steps if ended else None, **facts)


def cold_start(claim: Claim, inputs: ReportInputs) -> Outcome:
    """Without a warm-up, the error exceeds the paper's bound for two epochs or more and ends as with one, within the margin.

    Where it does not, and the first validation comes later than that, nothing shows whether it did before.
    """
    protocol = PROTOCOLS[inputs.data["name"]]
    ended = of_length(by_the_papers_recipe(inputs, claim, "validation"), protocol.steps, paper=True)
    cold, warm = ([t for t in one_per_seed(ended) if t.warm_up is kind] for kind in (False, True))
    if not cold or not warm:
        return unmeasured(claim, missing(inputs, claim, 1) + " One run with a warm-up and one without are needed.")
    bound, n = claim.paper["error"] / 100, inputs.data["counts"]["val"]
    cold_ids = {name for training in cold for name in ids(training.net)}
    started = [curve.series(VAL) for curve in inputs.curves if ids(curve.net) & cold_ids]
    epoch = inputs.data["counts"]["train"] / protocol.recipe["batch_size"]
    above = [max((step for step, _ in takewhile(lambda p: p[1] >= bound, points)), default=0) for points in started]
    late, first = statistics.median(above) / epoch, statistics.median(points[0][0] for points in started) / epoch
    ours, theirs = (mean_of(runs, n) for runs in (cold, warm))
    apart = difference(ours, theirs, seed_std(inputs))
    evidence = (
        f"{cold[0].net.name} without a warm-up: above {percent(bound)} for {late:.0f} epochs, {percent(ours.value)} at the "
        f"end; with one {percent(theirs.value)}, mean of {len(warm)} runs; {difference_text(apart)}, on {count(n)} "
        f"validation images; alike up to {protocol.margin:g} points above"
    )
    facts = behind_runs(inputs, [*cold, *warm])
    if late < round(first) > SEVERAL:
        return Outcome(claim=claim, status="inconclusive", evidence=evidence, value=apart.value, **facts)
    if round(late) < SEVERAL:
        return exact(claim, False, evidence, value=apart.value, **facts)
    return judged(claim, apart, (-math.inf, protocol.margin / 100), evidence, **facts)


def gradients(claim: Claim, inputs: ReportInputs) -> Outcome:
    """In each evaluated plain net, every layer's gradient and response is near the median layer's, at the start and the end."""
    protocol = PROTOCOLS.get(inputs.data["name"])
    least = FULL_LENGTH * LEAST * protocol.steps if protocol else math.inf
    nets = [layers for layers in inputs.layers if layers.net.name in claim.nets]
    nets = [layers for layers in nets if as_the_paper(layers.net) and layers.net.steps >= least]
    if not nets:
        return unmeasured(
            claim,
            f"Needs an evaluated plain net that degrades ({', '.join(claim.nets)}) and trained for at least an eighth of the paper's steps.",
        )
    ranges, worst = [], 1.0
    for layers in sorted(nets, key=lambda layers: layers.net.model.depth):
        moments = {"at the start": layers.at_start, "at the end": {"gradient": layers.gradient, "std": layers.std}}
        for when, signals in moments.items():
            if signals is None:
                ranges.append(f"{layers.net.name} not measured {when}")
                continue
            shares = [_range(signals[name]) for name in ("gradient", "std")]
            worst = max(worst, *(max(high, math.inf if low == 0 else 1 / low) for low, high in shares))
            texts = " and ".join(f"{low:.2g} to {high:.2g}" for low, high in shares)
            ranges.append(f"{layers.net.name} {when} {texts}")
    evidence = (
        "A layer's gradient (its norm) and response (its standard deviation) over the median layer's: "
        f"{', '.join(ranges)}; healthy within a factor of {HEALTHY:g}"
    )
    facts = {"value": worst if math.isfinite(worst) else None, "runs": len(nets)}
    result = exact(claim, worst <= HEALTHY, evidence, seeds=seeds_of(layers.net for layers in nets), **facts)
    halfway = result.status == "holds" and any(layers.at_start is None for layers in nets)
    return replace(result, status="inconclusive") if halfway else result


def _range(signal: Sequence[float]) -> tuple[float, float]:
    """Least and greatest value over the median."""
    middle = statistics.median(signal)
    return (min(signal) / middle, max(signal) / middle) if middle else (0.0, 0.0)
