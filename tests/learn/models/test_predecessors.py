"""AlexNet, VGG and GoogLeNet against torchvision's own, and their small forms."""

from __future__ import annotations

import pytest
import torch
import torchvision
from nets import make_model
from torch import nn

from pipeline.ensemble.forward import ready
from pipeline.learn.models import build_model

LARGE = [("alexnet", 8, "alexnet"), ("vgg", 16, "vgg16"), ("vgg", 19, "vgg19"), ("vgg_bn", 16, "vgg16_bn")]
SMALL = [("alexnet_small", 8), ("googlenet_small", 22), ("vgg_small", 11), ("vgg_bn_small", 11)]
GOOGLENET = {"aux_logits": False, "init_weights": False}


@pytest.mark.parametrize(("family", "depth", "theirs"), [*LARGE, ("googlenet", 22, "googlenet")])
def test_state_dicts_are_torchvisions(family, depth, theirs):
    options = GOOGLENET if family == "googlenet" else {}
    with torch.device("meta"):
        ours = build_model(make_model(depth, family=family), 1000)
        other = getattr(torchvision.models, theirs)(**options)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [(k, v.shape) for k, v in other.state_dict().items()]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("family", "depth"), SMALL)
def test_small_forms_learn_from_small_images(family, depth, channels):
    torch.manual_seed(0)
    net = build_model(make_model(depth, family=family), 7, channels)
    logits = net(torch.randn(4, channels, 32, 32))
    assert logits.shape == (4, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize(("family", "depth"), [net for net in SMALL if net[0] != "vgg_small"])
def test_the_form_that_evaluation_uses_gives_the_same_logits(family, depth):
    torch.manual_seed(0)
    net = build_model(make_model(depth, family=family), 5)
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        net(images)  # moves batch norm's statistics
        expected = net.eval()(images)
        torch.testing.assert_close(ready(net, torch.device("cpu"))(images), expected, rtol=1e-3, atol=1e-4)


def test_weights_are_drawn_as_the_residual_nets_are():
    torch.manual_seed(0)
    net = build_model(make_model(11, family="vgg_small"), 10)
    conv = net.features[-3]  # 512 -> 512
    assert isinstance(conv, nn.Conv2d) and conv.weight.std().item() == pytest.approx((2 / 4608) ** 0.5, rel=0.02)
    assert not net.classifier[-1].bias.any()
