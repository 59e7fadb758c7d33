"""What the report asks of a net."""

from __future__ import annotations

import pytest
from nets import make_model, make_net

from pipeline.report.traits import kind_of


@pytest.mark.parametrize(
    ("family", "depth", "residual", "kind"),
    [("cifar", 56, True, "residual"), ("imagenet", 34, False, "plain"), ("vgg_bn_small", 16, False, "others")],
)
def test_predecessors_are_neither_plain_nor_residual(family, depth, residual, kind):
    assert kind_of(make_net(depth, model=make_model(depth, residual, family))) == kind
