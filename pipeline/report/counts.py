"""Claims about parameters and multiply-adds, counted on the nets that training builds: no training is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import nn

from pipeline.learn.models import build_model
from pipeline.learn.models.cost import net_cost
from pipeline.learn.models.resnet import Bottleneck
from pipeline.report.claims import Outcome, exact
from pipeline.report.markdown import count, percent, short
from pipeline.report.paper import NETS, Claim

NEAR = 0.02  # share by which a count may differ from a printed figure of two or three digits


def _counted(claim: Claim) -> dict[str, int]:
    """Parameters or multiply-adds of the claim's nets, counted on the nets that training builds."""
    return {name: getattr(net_cost(NETS[name]), claim.metric) for name in claim.nets}


def size(claim: Claim) -> Outcome:
    """Each net's count is within 2 % of the printed one."""
    counted = _counted(claim)
    worst = max(abs(counted[name] / printed - 1) for name, printed in claim.paper.items())
    counts = ", ".join(f"{name} {short(counted[name])}" for name in claim.nets)
    return exact(claim, worst <= NEAR, f"{counts}; at most {percent(worst, 1)} from the printed figures", value=worst)


def smaller(claim: Claim) -> Outcome:
    """Each net's count is below that of the one before it."""
    counted = list(_counted(claim).items())
    holds = all(later < earlier for (_, earlier), (_, later) in pairwise(counted))
    return exact(claim, holds, ", ".join(f"{name} {short(value)}" for name, value in counted))


def below(claim: Claim) -> Outcome:
    """The net's count is below each printed one."""
    ((name, ours),) = _counted(claim).items()
    evidence = f"{name} {short(ours)}; {', '.join(f'{other} {short(theirs)}' for other, theirs in claim.paper.items())}"
    return exact(claim, ours < min(claim.paper.values()), evidence)


def share(claim: Claim) -> Outcome:
    """The first net's count is the printed percentage of the second's."""
    (one, other), (printed,) = _counted(claim).values(), claim.paper.values()
    result = 100 * one / other
    evidence = f"{short(one)} of {short(other)}: {result:.1f}%"
    return exact(claim, abs(result - printed) < 1, evidence, value=result / 100)


def same(claim: Claim) -> Outcome:
    """The counts of each plain net and its residual counterpart are equal."""
    counted = _counted(claim)
    pairs = list(zip(claim.nets[::2], claim.nets[1::2], strict=True))
    evidence = ", ".join(f"{plain} and {residual} {count(counted[residual])}" for plain, residual in pairs)
    return exact(claim, all(counted[a] == counted[b] for a, b in pairs), evidence)


def doubled(claim: Claim) -> Outcome:
    """A block of the claim's net whose shortcut is an identity costs the printed factor more with a projection."""
    (name,), (factor,) = claim.nets, claim.paper.values()
    planes = 64
    with torch.device("meta"):
        blocks = [
            Bottleneck(4 * planes, planes, 1, replace(NETS[name].model, shortcut=option)) for option in ("B", "C")
        ]
    identity, projection = (sum(parameter.numel() for parameter in block.parameters()) for block in blocks)
    # At stride 1 every convolution sees maps of one size, so multiply-adds have the ratio of the filters' numbers.
    ratio = projection / identity
    evidence = f"A block of {4 * planes} planes: {count(identity)} parameters, with a projection {count(projection)}: {ratio:.2f} times"
    return exact(claim, abs(ratio / factor - 1) <= 0.05, evidence, value=ratio)


def projections(claim: Claim) -> Outcome:
    """The second net has as many projections more than the first as is printed."""
    with torch.device("meta"):
        nets = [build_model(NETS[name].model, 1000) for name in claim.nets]
    first, second = (
        sum(name.endswith("downsample") and isinstance(module, nn.Sequential) for name, module in net.named_modules())
        for net in nets
    )
    evidence = f"{claim.nets[0]} {first}, {claim.nets[1]} {second}"
    return exact(claim, second - first == claim.paper["projections"], evidence, value=second - first)


COUNTS: dict[str, Callable[[Claim], Outcome]] = {
    "size": size,
    "smaller": smaller,
    "below": below,
    "share": share,
    "same": same,
    "doubled": doubled,
    "projections": projections,
}
