"""Conformance: sizes and costs of the paper's nets, to the unit where an independent count is known."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.learn.models import build_model
from pipeline.learn.models.cost import count_cost, net_cost
from pipeline.learn.models.zoo import NETS

COSTS = {net.name: net_cost(net) for net in NETS}

# CIFAR nets with 10 classes: parameters, millions of multiply-adds.
CIFAR = {
    20: (269_722, 40.551),
    32: (464_154, 68.863),
    44: (658_586, 97.174),
    56: (853_018, 125.486),
    110: (1_727_962, 252.888),
    1202: (19_421_274, 2829.239),
}

# Nets of Table 1: parameters, 10^9 multiply-adds.
IMAGENET = {
    "plain-18": (11_515_688, 1.795),
    "ResNet-18 (A)": (11_515_688, 1.795),
    "ResNet-18 (B)": (11_689_512, 1.814),
    "ResNet-18 (C)": (12_043_816, None),
    "plain-34": (21_623_848, 3.644),
    "ResNet-34 (A)": (21_623_848, 3.644),
    "ResNet-34 (B)": (21_797_672, 3.664),
    "ResNet-34 (C)": (22_716_840, 3.831),
    "ResNet-50": (25_557_032, 3.858),
    "ResNet-101": (44_549_160, 7.570),
    "ResNet-152": (60_192_808, 11.282),
    "ResNet-50 (v1.5)": (25_557_032, 4.089),
    "ResNet-101 (v1.5)": (44_549_160, 7.801),
    "ResNet-152 (v1.5)": (60_192_808, 11.514),
}


@pytest.mark.parametrize("depth", CIFAR)
def test_cifar_nets_have_the_known_cost(depth):
    for name in (f"plain-{depth}", f"ResNet-{depth}"):
        if name in COSTS:
            params, mega = CIFAR[depth]
            assert (COSTS[name].params, round(COSTS[name].macs / 1e6, 3)) == (params, mega), name


@pytest.mark.parametrize("depth", CIFAR)
@pytest.mark.parametrize(("change", "more"), [({"shortcut": "B"}, 2_752), ({"num_classes": 100}, 5_850)])
def test_option_b_and_cifar100_add_the_known_parameters(depth, change, more):
    with torch.device("meta"):
        net = build_model("cifar", depth, **{"num_classes": 10} | change)
    assert sum(p.numel() for p in net.parameters()) == CIFAR[depth][0] + more


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_nets_have_the_known_cost(name):
    params, giga = IMAGENET[name]
    assert COSTS[name].params == params
    assert giga is None or round(COSTS[name].macs / 1e9, 3) == giga


@pytest.mark.parametrize(
    "net",
    [net for net in NETS if "GoogLeNet" not in net.name],  # its depth is that of the longest way through it
    ids=lambda net: net.name,
)
def test_weighted_layers_are_the_depth(net):
    assert COSTS[net.name].layers == net.depth


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_cost_agrees_with_what_the_paper_prints(net):
    cost = COSTS[net.name]
    if net.paper_params:
        digits = len(net.paper_params.split(".")[1].rstrip("M"))
        assert f"{cost.params / 1e6:.{digits}f}M" == net.paper_params
    if net.paper_flops:  # the paper rounds freely: 3.858 and 11.282 stand as 3.8 and 11.3
        assert cost.macs / 1e9 == pytest.approx(float(net.paper_flops.removesuffix("×10^9")), rel=0.02)


@pytest.mark.parametrize("family, depth", [("cifar", 20), ("imagenet", 18), ("imagenet", 50)])
def test_plain_bottleneck_and_basic_nets_cost_what_option_a_costs(family, depth):
    shape = (3, 32, 32) if family == "cifar" else (3, 224, 224)
    with torch.device("meta"):
        plain = build_model(family, depth, residual=False, num_classes=10)
        option_a = build_model(family, depth, shortcut="A", num_classes=10)
    assert count_cost(plain, shape) == count_cost(option_a, shape)


@pytest.mark.parametrize("name", ["ResNet-20", "ResNet-34 (C)", "ResNet-50", "ResNet-50 (v1.5)"])
def test_multiply_adds_are_half_of_torchs_flop_count(name):
    net = next(net for net in NETS if net.name == name)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        net.build().eval()(torch.zeros(1, *net.image_shape))
    assert counter.get_total_flops() == 2 * COSTS[name].macs


@pytest.mark.parametrize("family", ["cifar", "alexnet_small"])
def test_counting_leaves_the_net_as_it_was(family):
    net = build_model(family, 8, num_classes=10)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    first = count_cost(net, (3, 32, 32))
    assert count_cost(net, (3, 32, 32)) == first
    assert net.training and all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert not any("forward" in vars(m) or m._forward_hooks for m in net.modules())
