"""A claim's verdict: holds, fails or not measured, with the numbers behind it. `checks` computes it from the inputs."""

from __future__ import annotations

from collections.abc import Iterable
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
    value: float | None = None  # our number, or the difference that decides
    interval: Bounds | None = None
    beyond_chance: bool | None = None  # whether the interval agrees with the verdict
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


def verdict(claim: Claim, holds: bool, evidence: str, **facts: Any) -> Outcome:
    return Outcome(claim=claim, status="holds" if holds else "fails", evidence=evidence, **facts)


def compared(claim: Claim, difference: float, bounds: Bounds | None, evidence: str, **facts: Any) -> Outcome:
    """A verdict that one error is smaller than another, by their difference."""
    beyond = None if bounds is None else not bounds[0] <= 0 <= bounds[1]
    evidence += f"; difference {points(difference)} points{_interval(bounds, beyond, 'includes zero')}"
    return verdict(claim, difference < 0, evidence, value=difference, interval=bounds, beyond_chance=beyond, **facts)


def near(claim: Claim, difference: float, bounds: Bounds | None, evidence: str, **facts: Any) -> Outcome:
    """A verdict that two errors differ by no more than the claim's margin."""
    margin = claim.margin / 100
    holds, beyond = abs(difference) <= margin, None
    if bounds:
        low, high = bounds
        beyond = (-margin <= low and high <= margin) if holds else (low > margin or high < -margin)
    evidence += f"; difference {points(difference)} points, at most {claim.margin:g} either way"
    evidence += _interval(bounds, beyond, "crosses the margin")
    return verdict(claim, holds, evidence, value=difference, interval=bounds, beyond_chance=beyond, **facts)


def _interval(bounds: Bounds | None, beyond: bool | None, doubt: str) -> str:
    if bounds is None:
        return ""
    text = f", 95% interval {points(bounds[0])} to {points(bounds[1])}"
    return text if beyond else f"{text}, which {doubt}: it may be chance"


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
