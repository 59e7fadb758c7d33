"""Claims about the nets themselves: parameters and multiply-adds, counted on the nets that training builds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from pipeline.learn.models.cost import net_cost
from pipeline.learn.models.zoo import NETS
from pipeline.report.document import count, percent, short
from pipeline.report.outcome import Outcome
from pipeline.report.paper import Claim

NEAR = 0.02  # of a printed figure of two or three digits
_NETS = {net.name: net for net in NETS}


def _counted(claim: Claim) -> dict[str, int]:
    return {name: getattr(net_cost(_NETS[name]), claim.metric) for name in claim.nets}


def _outcome(claim: Claim, holds: bool, evidence: str, value: float | None = None) -> Outcome:
    return Outcome(claim=claim, status="holds" if holds else "fails", evidence=evidence, value=value)


def size(claim: Claim) -> Outcome:
    """Each net's count is within 2 % of the printed one."""
    counted = _counted(claim)
    apart = {name: counted[name] / printed - 1 for name, printed in claim.paper.items()}
    worst = max(map(abs, apart.values()))
    told = ", ".join(f"{name} {short(counted[name])}" for name in claim.nets)
    return _outcome(claim, worst <= NEAR, f"{told}; at most {percent(worst, 1)} from the printed figures", worst)


def smaller(claim: Claim) -> Outcome:
    """Each net's count is below that of the one before it."""
    counted = list(_counted(claim).items())
    holds = all(later < earlier for (_, earlier), (_, later) in pairwise(counted))
    return _outcome(claim, holds, ", ".join(f"{name} {short(value)}" for name, value in counted))


def share(claim: Claim) -> Outcome:
    """The first net's count is the printed percentage of the second's."""
    (one, other), (printed,) = _counted(claim).values(), claim.paper.values()
    found = 100 * one / other
    told = f"{short(one)} of {short(other)}: {found:.1f}%"
    return _outcome(claim, abs(found - printed) < 1, told, found / 100)


def same(claim: Claim) -> Outcome:
    """Of each pair of nets, plain and residual, both counts are equal."""
    counted, names = _counted(claim), claim.nets
    pairs = list(zip(names[::2], names[1::2], strict=True))
    told = ", ".join(f"{plain} and {residual} {count(counted[residual])}" for plain, residual in pairs)
    return _outcome(claim, all(counted[a] == counted[b] for a, b in pairs), told)


SIZES: dict[str, Callable[[Claim], Outcome]] = {"size": size, "smaller": smaller, "share": share, "same": same}
