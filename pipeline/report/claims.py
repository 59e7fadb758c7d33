"""The paper's claims checked against what was measured here: holds, fails, or not measured, with the numbers.

Nothing is typed by hand: a verdict is computed from the inputs. A published error needs nets that trained for the paper's
length; a comparison needs nets that trained for as long as each other, an eighth of the paper's length at least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise

from pipeline.learn.models.cost import net_cost
from pipeline.report.checks import CHECKS
from pipeline.report.inputs import ReportInputs
from pipeline.report.markdown import count, percent, short
from pipeline.report.outcome import Outcome, unmeasured, verdict
from pipeline.report.paper import CLAIMS, NETS, PROTOCOLS, Claim

NEAR = 0.02  # of a printed figure of two or three digits


def assess(inputs: ReportInputs) -> list[Outcome]:
    """Every claim of the paper, in its order."""
    made_by = inputs.provenance.get("commands", {}).get("the whole experiment", "")
    outcomes = [_assess(claim, inputs) for claim in CLAIMS]
    return [replace(outcome, command=made_by) if outcome.runs else outcome for outcome in outcomes]


def applies(claim: Claim, dataset: str) -> bool:
    """Whether the paper makes the claim on this data set, or on none in particular."""
    return claim.dataset in ("", dataset)


def commands(claims: Iterable[Claim]) -> str:
    """Each command once, under the claims that it would measure."""
    missing: dict[str, list[str]] = {}
    for claim in claims:
        if claim.command:
            missing.setdefault(claim.command, []).append(claim.id)
    return "\n\n".join(f"# {', '.join(ids)}\n{command}" for command, ids in missing.items())


def _assess(claim: Claim, inputs: ReportInputs) -> Outcome:
    if claim.check in SIZES:
        return SIZES[claim.check](claim)
    if not applies(claim, inputs.data["name"]):
        where = PROTOCOLS[claim.dataset].title
        return unmeasured(claim, f"The paper says this of {where}; these runs are on {inputs.data['name']}.")
    return CHECKS[claim.check](claim, inputs)


def _counted(claim: Claim) -> dict[str, int]:
    """Parameters or multiply-adds of the claim's nets, counted on the nets that training builds."""
    return {name: getattr(net_cost(NETS[name]), claim.metric) for name in claim.nets}


def size(claim: Claim) -> Outcome:
    """Each net's count is within 2 % of the printed one."""
    counted = _counted(claim)
    worst = max(abs(counted[name] / printed - 1) for name, printed in claim.paper.items())
    counts = ", ".join(f"{name} {short(counted[name])}" for name in claim.nets)
    return verdict(claim, worst <= NEAR, f"{counts}; at most {percent(worst, 1)} from the printed figures", value=worst)


def smaller(claim: Claim) -> Outcome:
    """Each net's count is below that of the one before it."""
    counted = list(_counted(claim).items())
    holds = all(later < earlier for (_, earlier), (_, later) in pairwise(counted))
    return verdict(claim, holds, ", ".join(f"{name} {short(value)}" for name, value in counted))


def share(claim: Claim) -> Outcome:
    """The first net's count is the printed percentage of the second's."""
    (one, other), (printed,) = _counted(claim).values(), claim.paper.values()
    result = 100 * one / other
    evidence = f"{short(one)} of {short(other)}: {result:.1f}%"
    return verdict(claim, abs(result - printed) < 1, evidence, value=result / 100)


def same(claim: Claim) -> Outcome:
    """Of each pair of nets, plain and residual, both counts are equal."""
    counted = _counted(claim)
    pairs = list(zip(claim.nets[::2], claim.nets[1::2], strict=True))
    evidence = ", ".join(f"{plain} and {residual} {count(counted[residual])}" for plain, residual in pairs)
    return verdict(claim, all(counted[a] == counted[b] for a, b in pairs), evidence)


SIZES: dict[str, Callable[[Claim], Outcome]] = {"size": size, "smaller": smaller, "share": share, "same": same}
