"""Optimisers: SGD with momentum (Sec. 3.4) or AdamW and, if the recipe asks for it, Muon beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from pipeline.config import RecipeConfig
from pipeline.learn.models.mapping import new_weights

BETA2 = 0.999  # AdamW's average of squared gradients, as in its paper (Loshchilov and Hutter 2017, arXiv 1711.05101)
DECAY = 0.1  # Muon's weight decay, times the rate; it bounds the lengths of weights, which batch norm leaves free


def optimisers(net: nn.Module, recipe: RecipeConfig, backbone_lr: float = 1.0) -> list[Optimizer]:
    """SGD or AdamW for all weights. With recipe.muon_lr, Muon for all convolutions but the first, and the other for the rest.

    A group's rate is its "share" times the schedule's rate. Weights that need no gradient are left out.

    Args:
        backbone_lr: share of all layers but the new ones, see `mapping.new_weights`.
    """
    convolutions = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]
    hidden = [weight for weight in convolutions[1:] if weight.requires_grad] if recipe.muon_lr else []
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    by_muon, norm = {id(p) for p in hidden}, {id(p) for m in norms for p in m.parameters(False)}
    names = new_weights(net) if backbone_lr != 1 else set()
    new = {id(p) for name, p in net.named_parameters() if name in names}
    # Lists, not sets: a checkpoint stores momentum by position, and a set's order differs between processes.
    rest = [p for p in net.parameters() if id(p) not in by_muon and p.requires_grad]
    groups: list[dict[str, Any]] = []
    for share, is_new in ((backbone_lr, False), (1.0, True)):
        for decay, decayed in ((recipe.weight_decay, True), (0.0, False)):
            params = [
                p for p in rest if (id(p) in new) == is_new and (recipe.decay_norm or id(p) not in norm) == decayed
            ]
            groups.append({"params": params, "weight_decay": decay, "share": share})
    groups = [group for group in groups if group["params"]]
    fused = next(net.parameters()).is_cuda or None  # None leaves the choice to torch
    first: Optimizer
    if recipe.optimizer == "adamw":
        first = AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, BETA2), fused=fused, capturable=bool(fused))
    else:
        first = SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=fused)
    if not hidden:
        return [first]
    return [first, Muon(hidden, backbone_lr * recipe.muon_lr / recipe.lr, recipe.momentum, recipe.nesterov)]


def settle(optimizer: Optimizer, device: torch.device, cuda: bool) -> None:
    """Makes an optimiser, restored perhaps from a checkpoint of another device, one that steps on `device`.

    Args:
        cuda: whether that is a CUDA device, whose steps can be recorded.
    """
    for group in optimizer.param_groups:
        if "fused" in group:
            group["fused"] = cuda or None  # None leaves the choice to torch
        if "capturable" in group:
            group["capturable"] = cuda
        # A recorded step reads its rate from a tensor.
        group["lr"] = torch.zeros((), device=device) if cuda else 0.0
    for parameter, state in optimizer.state.items():
        if "step" in state:  # AdamW's, which torch leaves on the device that it was saved from
            state["step"] = state["step"].to(device)
        for (
            name,
            value,
        ) in state.items():  # fused kernels take no other layout than the weights' (trainer.channels_last)
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(value)


def freeze_backbone(model: nn.Module) -> None:
    """Stops the learning of every layer but the new ones; `TrainingModule` keeps batch norm's statistics."""
    new = new_weights(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in new)


class Muon(Optimizer):
    """Orthogonalised momentum for convolutions, whose filters are the rows of a matrix (Jordan et al. 2024).

    Makes the step that torch.optim.Muon makes on those matrices. Torch handles one matrix after the other, which takes
    21 ms a step for ResNet-20 on two cores. Here matrices of one shape share a product, which takes 9 ms, and no value
    is read on the host, so a CUDA graph can record the step.

    Args:
        weights: (O, I, h, w).
        share: factor of the schedule's rate.
    """

    def __init__(self, weights: Sequence[Tensor], share: float, momentum: float, nesterov: bool) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for weight in weights:
            by_shape.setdefault(weight.shape, []).append(weight)
        groups = [{"params": params} for params in by_shape.values()]
        super().__init__(groups, {"lr": 0.0, "share": share, "momentum": momentum, "nesterov": nesterov})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params, momentum, lr = group["params"], group["momentum"], group["lr"]
            grads = torch.stack([p.grad.flatten(1) for p in params])
            state = self.state[params[0]]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(grads)
            running = state["momentum_buffer"].mul_(momentum).add_(grads)
            rows, columns = grads.shape[1:]
            result = orthogonal(grads.add(running, alpha=momentum) if group["nesterov"] else running)
            moves = result * (max(1.0, rows / columns) ** 0.5 * lr)
            for p, move in zip(params, moves, strict=True):
                p.mul_(1 - DECAY * lr).sub_(move.view(p.shape))


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, r, c) float32 -> the same singular vectors, with all singular values between about 0.7 and 1.2.

    In a training with bf16, its products are in bf16 (autocast), as those of torch.optim.Muon always are.

    Five steps of a polynomial that raises small singular values fast; more exactness brings nothing (Jordan 2024).
    """
    tall = matrices.shape[1] > matrices.shape[2]
    result = matrices.mT if tall else matrices
    result = result / result.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        square = result @ result.mT
        result = torch.baddbmm(
            result, torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315), result, beta=3.4445
        )
    return result.mT if tall else result
