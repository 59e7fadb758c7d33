"""How each kind of claim is checked against trainings. Verdicts are computed from the inputs, never typed.

A comparison needs nets that trained equally long, for at least an eighth of the paper's steps. A published error needs
nets trained for the paper's steps; it is reached where our interval ends below it or within the protocol's margin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.evaluation.estimates import Estimate
from pipeline.report.check_nets import bounded, compare_nets, reaches, seeds
from pipeline.report.check_training import cold_start, gradients, throughout, warm_up
from pipeline.report.claims import (
    BELOW_ZERO,
    Outcome,
    applies,
    difference_text,
    elsewhere,
    finished,
    judged,
    unmeasured,
)
from pipeline.report.counts import COUNTS
from pipeline.report.inputs import FEWEST_CLASSES, ReportInputs
from pipeline.report.markdown import percent
from pipeline.report.paper import CLAIMS, Claim
from pipeline.report.trainings import seeds_of, trained


def assess(inputs: ReportInputs) -> list[Outcome]:
    """Every claim of the paper, in its order."""
    return finished([_assess(claim, inputs) for claim in CLAIMS], inputs.provenance)


def _assess(claim: Claim, inputs: ReportInputs) -> Outcome:
    if claim.check in COUNTS:
        return COUNTS[claim.check](claim)
    if not applies(claim, inputs.data["name"]):
        return elsewhere(claim, inputs.data["name"])
    if claim.check not in CHECKS:
        return unmeasured(claim, "A claim about detectors; these nets classify.")
    return CHECKS[claim.check](claim, inputs)


def ensemble_gain(claim: Claim, inputs: ReportInputs) -> Outcome:
    """The ensemble against the best member on validation, or the hardest to beat of all, on the same test images.

    It takes an interval without zero and McNemar's exact test.
    """
    ensemble, top5, classes = inputs.ensemble, claim.metric == "top5", len(inputs.data["classes"])
    if ensemble is None or ensemble["size"] < 2:
        return unmeasured(claim, "No ensemble of two members or more was evaluated.")
    if top5 and not inputs.top5_tells:
        return unmeasured(claim, f"A top-5 error of {classes} classes says little; {FEWEST_CLASSES} are needed.")
    rival = inputs.rival("5" if top5 else "")
    if rival is None:
        return unmeasured(claim, "The ensemble was not compared with its members; `pipeline evaluate` does so.")
    ours, theirs = (net["test_err5" if top5 else "test_err1"] for net in (ensemble, rival.net.to_json()))
    low, high = rival.difference["ci95"]
    estimate = Estimate(rival.difference["estimate"], (low, high), inputs.num_test)
    evidence = (
        f"On {inputs.data['name']}, {ensemble['size']} nets: ensemble {percent(ours)}, "
        f"{'best member' if inputs.best_member else 'of its members, the hardest to beat is'} {rival.net.name} "
        f"{percent(theirs)}; {difference_text(estimate)}"
    )
    facts: dict[str, Any] = {"runs": trained(inputs.members), "seeds": seeds_of(inputs.members)}
    if rival.p is not None:  # exact, where the bootstrap's interval is too narrow: few images on which the two differ
        facts["p"] = rival.p
    return judged(claim, estimate, BELOW_ZERO, evidence, **facts)


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
    "warm_up": warm_up,
    "cold_start": cold_start,
    "throughout": throughout,
    "gradients": gradients,
    "not_public": not_public,
}
