"""A claim's verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.report.markdown import points
from pipeline.report.paper import Claim

Status = Literal["holds", "fails", "not measured"]
STATUSES: tuple[Status, ...] = ("holds", "fails", "not measured")
Bounds = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Errors and differences of errors are fractions; counts, shares and responses are as they are."""

    claim: Claim
    status: Status
    evidence: str
    value: float | None = None  # our number, or the difference the verdict rests on
    interval: Bounds | None = None
    beyond_chance: bool | None = None  # whether the interval agrees with the verdict
    runs: int | None = None  # trainings behind it
    seeds: tuple[int, ...] = ()  # theirs, each once
    length: float | None = None  # their steps, of the paper's
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


def verdict(claim: Claim, holds: bool, evidence: str, **facts: Any) -> Outcome:
    return Outcome(claim=claim, status="holds" if holds else "fails", evidence=evidence, **facts)


def compared(claim: Claim, difference: float, bounds: Bounds | None, evidence: str, **facts: Any) -> Outcome:
    """A verdict that one error is smaller than another, by their difference."""
    beyond = None if bounds is None else not bounds[0] <= 0 <= bounds[1]
    evidence += f"; difference {points(difference)} points{_interval(bounds, beyond, 'includes zero')}"
    return verdict(claim, difference < 0, evidence, value=difference, interval=bounds, beyond_chance=beyond, **facts)


def near(claim: Claim, difference: float, bounds: Bounds | None, evidence: str, **facts: Any) -> Outcome:
    """A verdict that two errors are no further apart than the claim's margin."""
    margin = claim.margin / 100
    holds, beyond = abs(difference) <= margin, None
    if bounds:
        low, high = bounds
        beyond = (-margin <= low and high <= margin) if holds else (low > margin or high < -margin)
    evidence += f"; difference {points(difference)} points, at most {claim.margin:g} either way"
    evidence += _interval(bounds, beyond, "reaches over the margin")
    return verdict(claim, holds, evidence, value=difference, interval=bounds, beyond_chance=beyond, **facts)


def _interval(bounds: Bounds | None, beyond: bool | None, doubt: str) -> str:
    if bounds is None:
        return ""
    text = f", 95% interval {points(bounds[0])} to {points(bounds[1])}"
    return text if beyond else f"{text}, which {doubt}: it may be chance"
