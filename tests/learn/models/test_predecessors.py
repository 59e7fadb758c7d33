"""AlexNet, VGG and GoogLeNet against torchvision's own, and their small forms."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from pipeline.ensemble.forward import ready
from pipeline.learn.models import build_model
from pipeline.learn.models.cost import net_cost
from pipeline.learn.models.predecessors import PREDECESSORS, SMALL
from pipeline.learn.models.zoo import NETS

LARGE = [("alexnet", 8, "alexnet"), ("vgg", 16, "vgg16"), ("vgg", 19, "vgg19"), ("vgg_bn", 16, "vgg16_bn")]
GOOGLENET = {"aux_logits": False, "init_weights": False}
# Parameters and 10^9 multiply-adds, as torchvision publishes them.
COSTS = {
    "AlexNet": (61_100_840, 0.714),
    "GoogLeNet": (6_624_904, 1.498),
    "VGG-16": (138_357_544, 15.47),
    "VGG-19": (143_667_240, 19.632),
    "VGG-16 (BN)": (138_365_992, 15.47),
    "VGG-19 (BN)": (143_678_248, 19.632),
}


@pytest.mark.parametrize(("family", "depth", "theirs"), [*LARGE, ("googlenet", 22, "googlenet")])
def test_state_dicts_are_torchvisions(family, depth, theirs):
    options = GOOGLENET if family == "googlenet" else {}
    with torch.device("meta"):
        ours, other = build_model(family, depth, num_classes=1000), getattr(torchvision.models, theirs)(**options)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [(k, v.shape) for k, v in other.state_dict().items()]


@pytest.mark.parametrize("name", COSTS)
def test_they_have_the_known_cost(name):
    (net,) = (net for net in NETS if net.name == name)
    cost = net_cost(net)
    assert (cost.params, round(cost.macs / 1e9, 3)) == COSTS[name]


def test_152_layers_cost_less_than_vgg():
    cost = {net.name: net_cost(net).macs for net in NETS}
    assert cost["ResNet-152"] < cost["VGG-16"] < cost["VGG-19"]  # Sec. 4.1
    assert cost["ResNet-34 (A)"] / cost["VGG-19"] == pytest.approx(0.18, abs=0.01)  # Sec. 3.3


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("family", [name for name in PREDECESSORS if name.endswith(SMALL)])
def test_small_forms_learn_from_small_images(family, channels):
    torch.manual_seed(0)
    depth = {"alexnet": 8, "googlenet": 22}.get(family.split("_")[0], 11)
    net = build_model(family, depth, num_classes=7, in_channels=channels)
    said = net(torch.randn(4, channels, 32, 32))
    assert said.shape == (4, 7)
    said.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("family", ["vgg_bn_small", "googlenet_small", "alexnet_small"])
def test_the_form_that_evaluation_uses_says_the_same(family):
    torch.manual_seed(0)
    depth = {"alexnet_small": 8, "googlenet_small": 22}.get(family, 11)
    net = build_model(family, depth, num_classes=5)
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        net(images)  # batch norm has seen something
        expected = net.eval()(images)
        torch.testing.assert_close(ready(net, torch.device("cpu"))(images), expected, rtol=1e-3, atol=1e-4)


def test_weights_are_drawn_as_the_residual_nets_are():
    torch.manual_seed(0)
    net = build_model("vgg_small", 11, num_classes=10)
    conv = net.features[-3]  # 512 -> 512
    assert isinstance(conv, nn.Conv2d) and conv.weight.std().item() == pytest.approx((2 / 4608) ** 0.5, rel=0.02)
    assert not net.classifier[-1].bias.any()


def test_a_depth_that_a_family_has_not_is_refused():
    with pytest.raises(ValueError, match=r"model\.depth=12.*; it has 11, 13, 16, 19 layers"):
        build_model("vgg", 12, num_classes=10)
