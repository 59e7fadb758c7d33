"""Which weights are optimised how; Muon on convolutions against torch's own on matrices."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from imports import ROOT
from nets import make_detector, make_model
from runs import composed
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from pipeline.learn.models import build_model
from pipeline.learn.training.optimisers import Muon, optimisers, orthogonal, settle


def net(channels_last: bool = False) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(make_model(8), 10)
    return model.to(memory_format=torch.channels_last) if channels_last else model


def made(model: nn.Module, *overrides: str) -> list[Optimizer]:
    return optimisers(model, composed(ROOT, "data=cifar10", *overrides).recipe)


def names(model: nn.Module, group: dict[str, Any]) -> list[str]:
    """Of a group's parameters; Muon's are views of the same memory."""
    by_address = {parameter.data_ptr(): name for name, parameter in model.named_parameters()}
    return [by_address[parameter.data_ptr()] for parameter in group["params"]]


def test_weights_decay_and_batch_norm_does_not() -> None:
    model = net()
    (sgd,) = made(model, "recipe.decay_norm=false", "recipe.weight_decay=0.01")
    decayed, spared = sgd.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    grouped = [names(model, group) for group in (decayed, spared)]
    assert sorted(grouped[0] + grouped[1]) == sorted(name for name, _ in model.named_parameters())
    assert all(p.ndim == 1 for p in spared["params"]) and not any(name.startswith("fc") for name in grouped[1])
    assert [name for name, p in zip(grouped[0], decayed["params"], strict=True) if p.ndim == 1] == ["fc.bias"]


def test_the_optimiser_is_the_recipes_and_may_decay_all_parameters() -> None:
    model = net()
    (sgd,) = made(model, "recipe.decay_norm=true", "recipe.momentum=0.8", "recipe.nesterov=true")
    assert isinstance(sgd, SGD) and (sgd.defaults["momentum"], sgd.defaults["nesterov"]) == (0.8, True)
    (group,) = sgd.param_groups
    assert group["weight_decay"] > 0 and len(group["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("family", ["faster_rcnn", "faster_rcnn_fpn"])
def test_what_a_detector_adds_to_its_net_has_the_whole_rate(family: str) -> None:
    model = build_model(make_detector("resnet8", family), 3, 1)
    (adamw,) = optimisers(model, composed(ROOT, "data=digit_scenes").recipe, backbone_lr=0.1)
    shares = {name: group["share"] for group in adamw.param_groups for name in names(model, group)}
    new = ("rpn", "backbone.fpn", "roi_heads.box_predictor", *(["roi_heads.box_head"] if "fpn" in family else []))
    assert {*shares} == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, share in shares.items():
        assert share == (1.0 if name.startswith(new) else 0.1), name


def test_adamw_takes_the_place_of_sgd_with_the_same_groups() -> None:
    (adamw,) = made(net(), "recipe.optimizer=adamw", "recipe.nesterov=false", "recipe.momentum=0.8", "recipe.lr=0.001")
    assert isinstance(adamw, AdamW) and adamw.defaults["betas"] == (0.8, 0.999)
    (sgd,) = made(net())
    for one, two in zip(adamw.param_groups, sgd.param_groups, strict=True):
        assert (one["weight_decay"], one["share"]) == (two["weight_decay"], two["share"])
        assert len(one["params"]) == len(two["params"])
    both = made(net(), "recipe.optimizer=adamw", "recipe.muon_lr=0.02")
    assert [type(optimiser) for optimiser in both] == [AdamW, Muon]


@pytest.mark.parametrize("decay_norm", ["true", "false"])
def test_parameters_stand_in_the_same_order_in_every_process(decay_norm: str) -> None:
    """A checkpoint holds momentum by position."""
    model = net()
    position = {name: at for at, (name, _) in enumerate(model.named_parameters())}
    for optimiser in made(model, f"recipe.decay_norm={decay_norm}", "recipe.muon_lr=0.02"):
        for group in optimiser.param_groups:
            positions = [position[name] for name in names(model, group)]
            assert positions == sorted(positions)


def test_muon_takes_all_convolutions_but_the_first() -> None:
    model = net()
    sgd, muon = made(model, "recipe.muon_lr=0.02", "recipe.lr=0.4", "recipe.momentum=0.8")
    convolutions = [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    taken = [name for group in muon.param_groups for name in names(model, group)]
    assert sorted(taken) == sorted(convolutions[1:])
    rest = [name for group in sgd.param_groups for name in names(model, group)]
    assert sorted(rest + taken) == sorted(name for name, _ in model.named_parameters())
    assert {(group["momentum"], round(group["share"], 9)) for group in muon.param_groups} == {(0.8, 0.05)}


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (64, 16, 1, 1)], ids=["wide", "tall"])
def test_muon_moves_a_convolution_as_torchs_own_moves_its_matrix(
    nesterov: bool, channels_last: bool, shape: tuple[int, ...]
) -> None:
    """Which computes in bfloat16."""
    numbers = torch.Generator().manual_seed(0)
    starts = [torch.randn(shape, generator=numbers) for _ in range(2)]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    weights = [nn.Parameter(start.clone(memory_format=layout)) for start in starts]
    matrices = [nn.Parameter(start.flatten(1).clone()) for start in starts]
    ours, reference = Muon(weights, 1.0, 0.8, nesterov), torch.optim.Muon(matrices, momentum=0.8, nesterov=nesterov)
    for optimiser in (ours, reference):
        for group in optimiser.param_groups:
            group["lr"] = 0.05
    for _ in range(3):
        for weight, matrix in zip(weights, matrices, strict=True):
            grad = torch.randn(shape, generator=numbers)
            weight.grad, matrix.grad = grad.clone(memory_format=layout), grad.flatten(1)
        ours.step()
        reference.step()
    for weight, matrix, start in zip(weights, matrices, starts, strict=True):
        moved, expected = weight.detach().flatten(1) - start.flatten(1), matrix.detach() - start.flatten(1)
        assert (moved - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("shape", [(3, 16, 144), (2, 64, 16)])
def test_orthogonal_brings_singular_values_near_one_and_keeps_the_vectors(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonal(matrices)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    products = left.mT @ result @ right.mT  # diagonal where the singular vectors are the same
    diagonal = torch.diagonal(products, dim1=1, dim2=2)
    assert diagonal.min() > 0.6 and diagonal.max() < 1.3
    assert (products - torch.diag_embed(diagonal)).abs().max() < 1e-3
    assert torch.equal(orthogonal(torch.zeros(shape)), torch.zeros(shape))


def test_muons_momentum_is_kept_in_a_checkpoint() -> None:
    """By position, as all state of optimisers."""
    first = net()
    twins = [first, deepcopy(first)]
    both = [made(model, "recipe.muon_lr=0.02") for model in twins]

    def steps(model: nn.Module, optimisers: list[Optimizer], count: int) -> None:
        for step in range(count):
            images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
            F.cross_entropy(model(images), torch.arange(4)).backward()
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad()

    steps(twins[0], both[0], 2)
    twins[1].load_state_dict(twins[0].state_dict())
    for resumed, stopped in zip(both[1], both[0], strict=True):
        resumed.load_state_dict(deepcopy(stopped.state_dict()))
    for model, chosen in zip(twins, both, strict=True):
        steps(model, chosen, 2)
    state = twins[0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in twins[1].state_dict().items())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_state_of_another_layout_takes_that_of_the_weights(optimizer: str) -> None:
    """Fused kernels of a GPU refuse a momentum that lies otherwise in memory."""
    saved, resumed = net(channels_last=True), net()
    before, after = (made(model, f"recipe.optimizer={optimizer}", "recipe.lr=0.01")[0] for model in (saved, resumed))
    F.cross_entropy(saved(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
    before.step()
    after.load_state_dict(before.state_dict())
    settle(after, torch.device("cpu"), cuda=False)
    for one, other in zip(saved.parameters(), resumed.parameters(), strict=True):
        for name, value in before.state[one].items():
            assert torch.equal(after.state[other][name], value)
            assert value.dim() == 0 or after.state[other][name].stride() == other.stride()
