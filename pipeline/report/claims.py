"""The paper's claims held against what was measured here: holds, fails, or not measured, with the numbers.

Nothing is typed by hand: a verdict is computed from the inputs. A published error needs nets that trained for the paper's
length; a comparison needs nets that trained for as long as each other, an eighth of the paper's length at least.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.report.checks import CHECKS
from pipeline.report.inputs import ReportInputs
from pipeline.report.outcome import Outcome, unmeasured
from pipeline.report.paper import CLAIMS, PROTOCOLS, Claim
from pipeline.report.sizes import SIZES


def assess(inputs: ReportInputs) -> list[Outcome]:
    """Every claim of the paper, in its order."""
    made_by = inputs.provenance.get("commands", {}).get("the whole experiment", "")
    outcomes = [_assess(claim, inputs) for claim in CLAIMS]
    return [replace(outcome, command=made_by) if outcome.runs else outcome for outcome in outcomes]


def applies(claim: Claim, dataset: str) -> bool:
    """Whether the paper makes the claim on this data set, or on none in particular."""
    return claim.dataset in ("", dataset)


def _assess(claim: Claim, inputs: ReportInputs) -> Outcome:
    if claim.check in SIZES:
        return SIZES[claim.check](claim)
    if not applies(claim, inputs.data["name"]):
        where = PROTOCOLS[claim.dataset].title
        return unmeasured(claim, f"The paper says this of {where}; these runs are on {inputs.data['name']}.")
    return CHECKS[claim.check](claim, inputs)
