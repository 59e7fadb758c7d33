"""Which weights are optimised how; Muon on convolutions against torch's own on matrices."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from imports import ROOT
from runs import composed
from torch import nn
from torch.optim import SGD, Muon, Optimizer

from pipeline.models import build_model
from pipeline.training.optimisers import optimisers


def net(channels_last: bool = False) -> nn.Module:
    torch.manual_seed(0)
    model = build_model("cifar", 8, num_classes=10)
    return model.to(memory_format=torch.channels_last) if channels_last else model


def made(model: nn.Module, *overrides: str) -> list[Optimizer]:
    return optimisers(model, composed(ROOT, "data=cifar10", *overrides).recipe)


def names(model: nn.Module, group: dict[str, Any]) -> list[str]:
    """Of a group's parameters; Muon's are known by where they lie."""
    known = {parameter.data_ptr(): name for name, parameter in model.named_parameters()}
    return [known[parameter.data_ptr()] for parameter in group["params"]]


def test_weights_decay_and_batch_norm_does_not() -> None:
    model = net()
    (sgd,) = made(model, "recipe.decay_norm=false", "recipe.weight_decay=0.01")
    decayed, spared = sgd.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    found = [names(model, group) for group in (decayed, spared)]
    assert sorted(found[0] + found[1]) == sorted(name for name, _ in model.named_parameters())
    assert all(p.ndim == 1 for p in spared["params"]) and not any(name.startswith("fc") for name in found[1])
    assert [name for name, p in zip(found[0], decayed["params"], strict=True) if p.ndim == 1] == ["fc.bias"]


def test_all_parameters_decay_where_the_recipe_says_so() -> None:
    model = net()
    (sgd,) = made(model, "recipe.decay_norm=true")
    (group,) = sgd.param_groups
    assert group["weight_decay"] > 0 and len(group["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("decay_norm", ["true", "false"])
def test_parameters_stand_in_the_same_order_in_every_process(decay_norm: str) -> None:
    """A checkpoint holds momentum by position."""
    model = net()
    position = {name: at for at, (name, _) in enumerate(model.named_parameters())}
    for optimiser in made(model, f"recipe.decay_norm={decay_norm}", "recipe.muon_lr=0.02"):
        for group in optimiser.param_groups:
            positions = [position[name] for name in names(model, group)]
            assert positions == sorted(positions)


@pytest.mark.parametrize("nesterov", [True, False])
def test_the_optimiser_is_the_recipes(nesterov: bool) -> None:
    (sgd,) = made(net(), "recipe.momentum=0.8", f"recipe.nesterov={nesterov}")
    assert isinstance(sgd, SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"]) == (0.8, nesterov)


def test_muon_takes_all_convolutions_but_the_first() -> None:
    model = net()
    sgd, muon = made(model, "recipe.muon_lr=0.02", "recipe.lr=0.4", "recipe.momentum=0.8")
    (group,) = muon.param_groups
    convolutions = [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert names(model, group) == convolutions[1:]
    rest = [name for group in sgd.param_groups for name in names(model, group)]
    assert sorted(rest + convolutions[1:]) == sorted(name for name, _ in model.named_parameters())
    assert (group["momentum"], group["share"]) == (0.8, pytest.approx(0.05))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("grads_last", [False, True], ids=["grads as autograd leaves them", "grads in channels_last"])
def test_a_convolution_moves_as_its_matrix_would(channels_last: bool, grads_last: bool) -> None:
    model = net(channels_last)
    sgd, muon = made(model, "recipe.muon_lr=0.02", "recipe.momentum=0.8", "recipe.nesterov=true")
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)][1:]

    def as_matrix(tensor: torch.Tensor) -> torch.Tensor:
        return (tensor.permute(0, 2, 3, 1) if channels_last else tensor).detach().clone().flatten(1)

    matrices = [nn.Parameter(as_matrix(weight)) for weight in weights]
    reference = Muon(matrices, momentum=0.8, nesterov=True)
    for step in range(3):
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        F.cross_entropy(model(images), torch.arange(4)).backward()
        for weight, matrix in zip(weights, matrices, strict=True):
            assert weight.grad is not None
            if grads_last:
                weight.grad = weight.grad.contiguous(memory_format=torch.channels_last)
            matrix.grad = as_matrix(weight.grad)
        for optimiser in (muon, reference):
            optimiser.param_groups[0]["lr"] = 0.01
            optimiser.step()
        for weight, matrix in zip(weights, matrices, strict=True):
            assert torch.equal(as_matrix(weight), matrix)
        for optimiser in (sgd, muon):
            optimiser.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_muons_momentum_is_kept_in_a_checkpoint() -> None:
    """By position, as all state of optimisers."""
    first = net()
    twins = [first, deepcopy(first)]
    found = [made(model, "recipe.muon_lr=0.02") for model in twins]

    def steps(model: nn.Module, optimisers: list[Optimizer], count: int) -> None:
        for step in range(count):
            images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
            F.cross_entropy(model(images), torch.arange(4)).backward()
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad()

    steps(twins[0], found[0], 2)
    twins[1].load_state_dict(twins[0].state_dict())
    for resumed, stopped in zip(found[1], found[0], strict=True):
        resumed.load_state_dict(deepcopy(stopped.state_dict()))
    for model, ones in zip(twins, found, strict=True):
        steps(model, ones, 2)
    state = twins[0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in twins[1].state_dict().items())
