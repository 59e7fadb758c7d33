"""A claim's verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.report.document import points
from pipeline.report.paper import Claim

Status = Literal["holds", "fails", "not measured"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Errors and differences of errors are fractions; counts, shares and responses are as they are."""

    claim: Claim
    status: Status
    evidence: str
    value: float | None = None  # our number, or the difference the verdict rests on
    interval: tuple[float, float] | None = None
    beyond_chance: bool | None = None  # whether the interval agrees with the verdict
    runs: int | None = None  # trainings behind it
    seeds: tuple[int, ...] = ()  # theirs, each once
    length: float | None = None  # their iterations, of the paper's
    command: str = ""  # what made them; "" where nothing was trained for it

    def to_json(self) -> dict[str, Any]:
        facts = asdict(self)
        claim = facts.pop("claim")
        about = {key: claim[key] for key in ("id", "statement", "reference", "dataset", "check", "metric", "paper")}
        interval = list(self.interval) if self.interval else None
        command = self.command or self.claim.command
        return {**about, **facts, "seeds": list(self.seeds), "interval": interval, "command": command}


def unmeasured(claim: Claim, why: str) -> Outcome:
    return Outcome(claim=claim, status="not measured", evidence=why)


def compared(
    claim: Claim, holds: bool, difference: float, bounds: tuple[float, float] | None, evidence: str, **facts: Any
) -> Outcome:
    """A verdict that rests on a difference of two errors."""
    evidence += f"; difference {points(difference)} points"
    beyond = None
    if bounds:
        beyond = not bounds[0] <= 0 <= bounds[1]
        evidence += f", 95% interval {points(bounds[0])} to {points(bounds[1])}"
        evidence += "" if beyond else ", which includes zero: it may be chance"
    return Outcome(
        claim=claim,
        status="holds" if holds else "fails",
        evidence=evidence,
        value=difference,
        interval=bounds,
        beyond_chance=beyond,
        **facts,
    )


def near(claim: Claim, difference: float, bounds: tuple[float, float] | None, evidence: str, **facts: Any) -> Outcome:
    """A verdict that two errors are no further apart than the claim's margin."""
    margin = claim.margin / 100
    holds, beyond = abs(difference) <= margin, None
    evidence += f"; difference {points(difference)} points, at most {claim.margin:g} either way"
    if bounds:
        low, high = bounds
        beyond = (-margin <= low and high <= margin) if holds else (low > margin or high < -margin)
        evidence += f", 95% interval {points(bounds[0])} to {points(bounds[1])}"
        evidence += "" if beyond else ", which reaches over the margin: it may be chance"
    return Outcome(
        claim=claim,
        status="holds" if holds else "fails",
        evidence=evidence,
        value=difference,
        interval=bounds,
        beyond_chance=beyond,
        **facts,
    )
