"""A claim's verdict and the numbers behind it. `checks` computes it from the inputs.

A claim says in which region a number of ours lies: a difference of errors below zero, an error below a bound. It holds
where the 95 % interval lies inside the region and fails where it lies outside. Where the interval crosses the region's
edge, or where no interval can be computed, the verdict is inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pipeline.evaluation.estimates import Estimate, holm
from pipeline.report.markdown import points
from pipeline.report.paper import Claim, title_of

Status = Literal["holds", "fails", "inconclusive", "not measured"]
STATUSES: tuple[Status, ...] = ("holds", "fails", "inconclusive", "not measured")
Bounds = tuple[float, float]

BELOW_ZERO: Bounds = (-math.inf, 0.0)
ONE_RUN = "one run of each net does not show how far runs differ"
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Errors and differences of errors are fractions; counts, shares and responses are as they are."""

    claim: Claim
    status: Status
    evidence: str
    value: float | None = None  # our number, or the difference that decides
    interval: Bounds | None = None  # of `value`
    p: float | None = None  # two-sided, that the true value lies on the region's edge; None where nothing was tested
    p_holm: float | None = None  # p after Holm's correction for the claims of this kind that the same runs test
    runs: int | None = None  # trainings behind it
    seeds: tuple[int, ...] = ()  # distinct seeds of these
    length: float | None = None  # their steps, as a share of the paper's
    command: str = ""  # what made them; "" where nothing was trained for it

    def to_json(self) -> dict[str, Any]:
        facts = asdict(self)
        claim = facts.pop("claim")
        about = {key: claim[key] for key in ("id", "statement", "reference", "dataset", "check", "metric", "paper")}
        interval = list(self.interval) if self.interval else None
        command = self.command or self.claim.command
        return {**about, **facts, "seeds": list(self.seeds), "interval": interval, "command": command}


def unmeasured(claim: Claim, reason: str) -> Outcome:
    return Outcome(claim=claim, status="not measured", evidence=reason)


def elsewhere(claim: Claim, dataset: str) -> Outcome:
    """Of a claim about another data set than that of the runs."""
    return unmeasured(claim, f"This claim is about {title_of(claim.dataset)}; these runs are on {dataset}.")


def exact(claim: Claim, holds: bool, evidence: str, **facts: Any) -> Outcome:
    """A verdict on counted numbers, which no chance decides."""
    return Outcome(claim=claim, status="holds" if holds else "fails", evidence=evidence, **facts)


def judged(claim: Claim, estimate: Estimate, region: Bounds, evidence: str, **facts: Any) -> Outcome:
    """A verdict on whether an estimate lies in a region, by its interval."""
    if estimate.interval is None:
        return Outcome(
            claim=claim,
            status="inconclusive",
            evidence=f"{evidence}; no interval: {ONE_RUN}",
            value=estimate.value,
            **facts,
        )
    low, high = estimate.interval
    status = placed(estimate.interval, region)
    distance = min(abs(estimate.value - edge) for edge in region if math.isfinite(edge))
    if status == "inconclusive":
        evidence += f"; {estimate.settled_by(distance)}"
    facts = {"value": estimate.value, "interval": (low, high), "p": estimate.p(distance), **facts}
    return Outcome(claim=claim, status=status, evidence=evidence, **facts)


def placed(interval: Bounds, region: Bounds) -> Status:
    """Whether an interval lies in a region."""
    low, high = interval
    if region[0] < high < region[1] and region[0] < low:
        return "holds"
    return "fails" if high < region[0] or low > region[1] else "inconclusive"


def difference_text(estimate: Estimate) -> str:
    """difference −1.23 points, 95% interval −2.00 to −0.46 over images and seeds."""
    text = f"difference {points(estimate.value)} points"
    if estimate.interval is None:
        return text
    low, high = estimate.interval
    return f"{text}, 95% interval {points(low)} to {points(high)} over {estimate.over}"


def corrected(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes after Holm's correction: the more claims of a kind are tested on the same runs, the more evidence each needs."""
    result = list(outcomes)
    for check in {outcome.claim.check for outcome in outcomes}:
        tested = [at for at, outcome in enumerate(outcomes) if outcome.claim.check == check and outcome.p is not None]
        for at, p_holm in zip(tested, holm([outcomes[at].p or 0.0 for at in tested]), strict=True):
            result[at] = _corrected(outcomes[at], p_holm, len(tested))
    return result


def _corrected(outcome: Outcome, p_holm: float, tests: int) -> Outcome:
    if outcome.status == "inconclusive" or p_holm <= ALPHA:
        return replace(outcome, p_holm=p_holm)
    corrected = f" alone, {p_holm:.3f} by Holm's correction for {tests} such claims" if tests > 1 else ""
    doubt = f"; p = {outcome.p:.3f}{corrected}"
    return replace(outcome, p_holm=p_holm, status="inconclusive", evidence=outcome.evidence + doubt)


def finished(outcomes: Sequence[Outcome], provenance: Mapping[str, Any]) -> list[Outcome]:
    """The outcomes after Holm's correction, with the command that made their runs."""
    made_by = provenance.get("commands", {}).get("the whole experiment", "")
    return [replace(outcome, command=made_by) if outcome.runs else outcome for outcome in corrected(outcomes)]


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
