"""How claims about detectors are checked: by the gain of one net in place of another, over images and seeds.

Gains have intervals, computed where detectors are evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.evaluation.estimates import Estimate, Spread
from pipeline.report.claims import ONE_RUN, Bounds, Outcome, Status, applies, elsewhere, finished, placed, unmeasured
from pipeline.report.detectors import DetectionInputs, gain_in
from pipeline.report.markdown import count, interval, percent, points
from pipeline.report.paper import CLAIMS, DETECTION, Claim
from pipeline.report.trainings import FULL_LENGTH, LEAST, seeds_of

ABOVE_ZERO: Bounds = (0.0, math.inf)
METRICS = {"ap": "AP", "ap50": "AP50", "voc07": "mAP, 2007", "voc12": "mAP, 2012"}


def assess_detectors(inputs: DetectionInputs) -> list[Outcome]:
    """Every claim about detectors, in the order of paper.yaml."""
    about = [claim for claim in CLAIMS if claim.dataset in DETECTION]
    return finished([_assess(claim, inputs) for claim in about], inputs.provenance)


def _assess(claim: Claim, inputs: DetectionInputs) -> Outcome:
    if not applies(claim, inputs.data["name"]):
        return elsewhere(claim, inputs.data["name"])
    return DETECTOR_CHECKS[claim.check](claim, inputs)


def swapped(claim: Claim, inputs: DetectionInputs) -> Outcome:
    """What the claim's second net gains in place of the first: more than nothing, or about the printed share."""
    base, net = claim.nets
    gain = next((gain for gain in inputs.gains if (gain["base"], gain["net"]) == (base, net)), None)
    if gain is None:
        return unmeasured(claim, f"{net} was not compared with {base}: it takes both, trained alike.")
    facts = _behind(claim, inputs, gain)
    if short := _too_short(facts):
        return unmeasured(claim, short)
    if claim.check == "detects_by":
        return _by_share(claim, gain, facts)
    gain = gain_in(gain, claim.metric)
    evidence = (
        f"{METRICS[claim.metric]}: {base} {percent(gain['base_ap'], 1)}, {net} {percent(gain['net_ap'], 1)} on {count(inputs.num_test)} test images; "
        f"difference {points(gain['difference']['estimate'])} points, 95% interval {_bounds(gain, 'difference')} over {over(gain)}"
    )
    return _judged(claim, gain["difference"], len(gain["seeds"]), ABOVE_ZERO, evidence, facts)


def over(gain: Mapping[str, Any]) -> str:
    """What a gain's interval covers."""
    return "images and seeds" if len(gain.get("seeds") or ()) > 1 else "images"


def _by_share(claim: Claim, gain: Mapping[str, Any], facts: Mapping[str, Any]) -> Outcome:
    printed, relative = claim.paper["gain"], gain["relative"]
    if relative is None:
        return unmeasured(claim, f"{gain['base']} has an AP of 0, of which there is no share.")
    region = ((printed - claim.margin) / 100, (printed + claim.margin) / 100)
    evidence = (
        f"{percent(relative['estimate'], 1)} of the AP of {gain['base']}, 95% interval {interval(relative['ci95'])} over "
        f"{over(gain)}; the claim: {printed:g} ± {claim.margin:g}%"
    )
    return _judged(claim, relative, len(gain["seeds"]), region, evidence, facts)


def _behind(claim: Claim, inputs: DetectionInputs, row: Mapping[str, Any]) -> dict[str, Any]:
    """Runs, seeds and length behind a gain or an improvement; {} where its runs are not among the detectors.

    Length: steps of the shortest training, as a share of the paper's; None where the paper tells none.
    """
    nets, paper = [each.net for each in inputs.behind(row)], DETECTION[claim.dataset].steps
    if not nets:
        return {}
    length = min(net.steps for net in nets) / paper if paper else None
    return {"runs": len(nets), "seeds": seeds_of(nets), "length": length}


def _too_short(facts: Mapping[str, Any]) -> str:
    """Why the trainings settle no comparison; "" if they are long enough, or if their length or the paper's is not known."""
    length = facts.get("length")
    if length is None or length >= FULL_LENGTH * LEAST:
        return ""
    return f"The trainings have {percent(length, 1)} of the paper's steps; the comparison needs {percent(LEAST, 1)}."


def status_of(estimate: Mapping[str, Any], seeds: int | None, region: Bounds) -> Status:
    """By the interval.

    Args:
        seeds: of each net's trainings, of which one settles nothing; None where the two sides share their trainings.
    """
    return "inconclusive" if seeds == 1 else placed((estimate["ci95"][0], estimate["ci95"][1]), region)


def _judged(
    claim: Claim,
    estimate: Mapping[str, Any],
    seeds: int | None,
    region: Bounds,
    evidence: str,
    facts: Mapping[str, Any],
) -> Outcome:
    value, (low, high) = estimate["estimate"], estimate["ci95"]
    facts = {
        "claim": claim,
        "status": status_of(estimate, seeds, region),
        "value": value,
        "interval": (low, high),
        **facts,
    }
    if seeds == 1:
        return Outcome(evidence=f"{evidence}; {ONE_RUN}", **facts)
    distance = min(abs(value - edge) for edge in region if math.isfinite(edge))
    # Published results may lack the degrees of freedom; those of the seeds alone are the fewest there can be.
    df = estimate.get("df", math.inf if seeds is None else seeds - 1)
    spread = Spread((high - low) / 2, math.inf if df is None else df)
    return Outcome(evidence=evidence, p=Estimate(value, seeds=spread).p(distance), **facts)


def _bounds(gain: Mapping[str, Any], what: str) -> str:
    low, high = gain[what]["ci95"]
    return f"{points(low)} to {points(high)}"


ALONE = (
    "make an ensemble of it alone (ensemble=listed with its runs as ensemble.members, or ensemble=one_net if it is the best "
    "net on validation images) and evaluate with "
)
IMPROVEMENTS = {  # by check: the key that switches it on, as evaluate.json names it, and how to measure it
    "refines": ("evaluation.refine", f"{ALONE}evaluation.refine=true"),
    "sees_scales": ("evaluation.scales", f"{ALONE}evaluation.scales=[200,400,600,800,1000]"),
    "sees_context": (
        "model.context",
        "train detectors with model.context=true and others without it, of two seeds or more",
    ),
}


def improved(claim: Claim, inputs: DetectionInputs) -> Outcome:
    """Table 9's improvements: whether the AP of the claim's nets is higher with it than without."""
    key, remedy = IMPROVEMENTS[claim.check]
    rows = [row for row in inputs.evaluation.get("improvements", []) if row["key"] == key]
    nets = (({each.name for each in inputs.behind(row)}, row) for row in rows)
    row = next((row for names, row in nets if names and names <= {*claim.nets}), None)
    if row is None:
        return unmeasured(claim, f"Not measured on {' and '.join(claim.nets)} alone; {remedy}.")
    facts = _behind(claim, inputs, row)
    if short := _too_short(facts):
        return unmeasured(claim, short)
    (before, after), seeds = row["ap"], row.get("seeds")
    evidence = (
        f"{key}: AP {percent(before, 1)} without, {percent(after, 1)} with it, a difference of {_bounds(row, 'difference')} "
        f"points (95% interval over {over(row)})"
    )
    return _judged(claim, row["difference"], seeds and len(seeds), ABOVE_ZERO, evidence, facts)


def not_public(claim: Claim, inputs: DetectionInputs) -> Outcome:
    """What only a test server can measure: VOC 2012's test set, COCO's test-dev."""
    return unmeasured(claim, "The labels of the test server's images are not public.")


DETECTOR_CHECKS: dict[str, Callable[[Claim, DetectionInputs], Outcome]] = {
    "detects_better": swapped,
    "detects_by": swapped,
    **dict.fromkeys(IMPROVEMENTS, improved),
    "not_public": not_public,
}
