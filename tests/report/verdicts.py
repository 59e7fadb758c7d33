"""Outcomes of claims on made-up nets."""

from __future__ import annotations

from nets import make_net
from samples import make_sample, with_nets

from pipeline.report.checks import assess

OF_ANY = {"ensemble-beats-best-member"}  # of few classes
OF_NETS = {
    "table-1-flops",
    "table-6-params",
    "resnet152-below-vgg",
    "plain34-is-a-fifth-of-vgg19",
    "table-6-thinner",
    "bottleneck-projection-doubles",
    "option-c-adds-thirteen",
    "shortcuts-are-free",
}
IMAGENET = {"n": 50_000, "steps": 600_000, "dataset": "imagenet"}


def outcome(inputs, claim):
    return next(result for result in assess(inputs) if result.claim.id == claim)


def status(inputs, claim):
    return outcome(inputs, claim).status


def seeds(*errors, **changes):
    """A ResNet-110 a seed with these test errors."""
    nets = [make_net(110, error=error, seed=seed, val_err1=error, **changes) for seed, error in enumerate(errors)]
    return with_nets(make_sample(), nets, curves=[])


def measured(inputs):
    return {result.claim.id for result in assess(inputs) if result.status != "not measured"}


def imagenet(*nets, views="10-crop"):
    return with_nets(make_sample(name="imagenet", depths=(), plain=()), nets, data={"protocol": views}, curves=[])
