from __future__ import annotations

import pytest
import torch

from pipeline.ensemble.cost import cost_of
from pipeline.ensemble.maker import all_trained
from pipeline.learn.models import build_model
from pipeline.learn.models.cost import count_cost, net_cost
from pipeline.learn.models.zoo import NETS
from pipeline.run.checkpoint import BEST, load_weights


def described(crop: int, **model):
    return {"model": {"family": "cifar", "num_classes": 10, "in_channels": 3, **model}, "augment": {"crop": crop}}


def test_at_the_papers_image_size_the_cost_is_the_papers():
    (net,) = (net for net in NETS if net.name == "resnet56")
    assert cost_of(described(32, depth=56)) == net_cost(net)


def test_the_cost_is_that_of_the_images_and_the_parameters_are_not():
    large, small = (cost_of(described(side, depth=8)) for side in (32, 16))
    assert large.params == small.params and large.macs == pytest.approx(4 * small.macs, rel=0.01)
    grey = cost_of(described(32, depth=8, in_channels=1))
    assert large.macs - grey.macs == 32 * 32 * 16 * 9 * 2  # the first layer reads one channel of three


@pytest.mark.parametrize("form", ["world", "shard_world"])
def test_a_trained_nets_cost_is_counted_on_its_own_images(form, request, tmp_path):
    world = request.getfixturevalue(form)
    key = world.add_run(0.1, depth=14, crop=8)
    (member,) = all_trained(world.maker, (), tmp_path)
    model = load_weights(world.runs / key / BEST)[1]["model"]
    with torch.device("meta"):
        net = build_model(**model)
    expected = count_cost(net, (world.store.manifest.channels, 8, 8))
    assert (member.params, member.macs) == (expected.params, expected.macs)
    assert member.params == sum(p.numel() for p in net.parameters())
