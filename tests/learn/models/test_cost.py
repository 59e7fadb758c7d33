"""Conformance: sizes and costs of the paper's nets, to the unit where an independent count exists."""

import subprocess
import sys

import pytest
import torch
from imports import ROOT
from nets import make_model
from torch.utils.flop_counter import FlopCounterMode

from pipeline.learn.models import build_model
from pipeline.learn.models.cost import count_cost, net_cost
from pipeline.learn.models.zoo import NETS

COSTS = {net.name: net_cost(net) for net in NETS}
CIFAR_PARAMS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 1202: 19_421_274}

# Parameters and 10^9 multiply-adds: of CIFAR nets with 10 classes, of Table 1, of the predecessors as torchvision
# publishes them.
COUNTED = {
    "ResNet-20": (269_722, "0.040551"),
    "ResNet-32": (464_154, "0.068863"),
    "ResNet-44": (658_586, "0.097174"),
    "ResNet-56": (853_018, "0.125486"),
    "ResNet-110": (1_727_962, "0.252888"),
    "ResNet-1202": (19_421_274, "2.829239"),
    "plain-56": (853_018, "0.125486"),
    "plain-18": (11_515_688, "1.795"),
    "ResNet-18 (A)": (11_515_688, "1.795"),
    "ResNet-18 (B)": (11_689_512, "1.814"),
    "ResNet-18 (C)": (12_043_816, None),
    "plain-34": (21_623_848, "3.644"),
    "ResNet-34 (A)": (21_623_848, "3.644"),
    "ResNet-34 (B)": (21_797_672, "3.664"),
    "ResNet-34 (C)": (22_716_840, "3.831"),
    "ResNet-50": (25_557_032, "3.858"),
    "ResNet-101": (44_549_160, "7.570"),
    "ResNet-152": (60_192_808, "11.282"),
    "ResNet-50 (v1.5)": (25_557_032, "4.089"),
    "ResNet-101 (v1.5)": (44_549_160, "7.801"),
    "ResNet-152 (v1.5)": (60_192_808, "11.514"),
    "AlexNet": (61_100_840, "0.714"),
    "GoogLeNet": (6_624_904, "1.498"),
    "VGG-16": (138_357_544, "15.470"),
    "VGG-19": (143_667_240, "19.632"),
    "VGG-16 (BN)": (138_365_992, "15.470"),
    "VGG-19 (BN)": (143_678_248, "19.632"),
}


@pytest.mark.parametrize("name", COUNTED)
def test_nets_have_the_cost_that_others_counted(name):
    params, giga = COUNTED[name]
    assert COSTS[name].params == params
    if giga:
        assert f"{COSTS[name].macs / 1e9:.{len(giga.split('.')[1])}f}" == giga


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_layers_and_cost_agree_with_what_the_paper_prints(net):
    cost = COSTS[net.name]
    # GoogLeNet's depth is that of the longest way through it.
    assert cost.layers == net.model.depth or net.model.kind == "googlenet"
    if net.paper_params:
        digits = len(net.paper_params.split(".")[1].rstrip("M"))
        assert f"{cost.params / 1e6:.{digits}f}M" == net.paper_params
    if net.paper_flops:  # the paper rounds freely: 3.858 and 11.282 stand as 3.8 and 11.3
        assert cost.macs / 1e9 == pytest.approx(float(net.paper_flops.removesuffix("×10^9")), rel=0.02)


def test_152_layers_cost_less_than_vgg():
    assert COSTS["ResNet-152"].macs < COSTS["VGG-16"].macs < COSTS["VGG-19"].macs  # Sec. 4.1
    assert COSTS["ResNet-34 (A)"].macs / COSTS["VGG-19"].macs == pytest.approx(0.18, abs=0.01)  # Sec. 3.3


@pytest.mark.parametrize("depth", CIFAR_PARAMS)
def test_option_b_and_cifar100_add_their_parameters(depth):
    with torch.device("meta"):
        option_b, cifar100 = build_model(make_model(depth, shortcut="B"), 10), build_model(make_model(depth), 100)
    more = [sum(p.numel() for p in net.parameters()) - CIFAR_PARAMS[depth] for net in (option_b, cifar100)]
    assert more == [2_752, 5_850]


@pytest.mark.parametrize("depth", [20, 18, 50])
def test_plain_bottleneck_and_basic_nets_cost_what_option_a_costs(depth):
    with torch.device("meta"):
        plain, option_a = (build_model(make_model(depth, residual, shortcut="A"), 10) for residual in (False, True))
    shape = (3, 32, 32) if depth == 20 else (3, 224, 224)
    assert count_cost(plain, shape) == count_cost(option_a, shape)


@pytest.mark.parametrize("name", ["ResNet-20", "ResNet-34 (C)", "ResNet-50", "ResNet-50 (v1.5)"])
def test_multiply_adds_are_half_of_torchs_flop_count(name):
    net = next(net for net in NETS if net.name == name)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        net.build().eval()(torch.zeros(1, *net.image_shape))
    assert counter.get_total_flops() == 2 * COSTS[name].macs


@pytest.mark.parametrize("family", ["cifar", "alexnet_small"])
def test_counting_leaves_the_net_as_it_was(family):
    net = build_model(make_model(8, family=family), 10)
    before, drawn = {key: value.clone() for key, value in net.state_dict().items()}, torch.get_rng_state()
    first = count_cost(net, (3, 32, 32))
    assert count_cost(net, (3, 32, 32)) == first
    assert net.training and all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert not any("forward" in vars(m) or m._forward_hooks for m in net.modules())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_counting_imports_nothing_that_takes_time():
    code = """
import sys, torch
from pipeline.config import ModelConfig
from pipeline.learn.models import build_model
from pipeline.learn.models.cost import count_cost
with torch.device("meta"):
    count_cost(build_model(ModelConfig(depth=20, residual=True, shortcut="A"), 10), (3, 32, 32))
assert "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
