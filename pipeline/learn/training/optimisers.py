"""What changes the weights: SGD with momentum (Sec. 3.4), and where a recipe asks for it Muon beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from pipeline.config import RecipeConfig
from pipeline.learn.models.mapping import head_name

DECAY = 0.1  # of a weight that Muon moves, times the learning rate: it holds the length that batch norm leaves free


def optimisers(net: nn.Module, recipe: RecipeConfig, backbone_lr: float = 1.0) -> list[Optimizer]:
    """SGD of all weights; with recipe.muon_lr SGD of the first convolution, batch norm and the classifier, and Muon.

    A group's "share" of the schedule's rate is its own rate. Weights that need no gradient are left out.

    Args:
        backbone_lr: share of all layers but the last.
    """
    hidden = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)][1:] if recipe.muon_lr else []
    hidden = [weight for weight in hidden if weight.requires_grad]
    by_muon = {id(p) for p in hidden}
    norm = {id(p) for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) for p in m.parameters(False)}
    # Lists, not sets: a checkpoint holds momentum by position, and a set's order is another in each process.
    rest = [p for p in net.parameters() if id(p) not in by_muon and p.requires_grad]
    last = {id(p) for p in net.get_submodule(head_name(net)).parameters()} if backbone_lr != 1 else set()
    groups: list[dict[str, Any]] = []
    for share, of in ((backbone_lr, [p for p in rest if id(p) not in last]), (1.0, [p for p in rest if id(p) in last])):
        decayed = [p for p in of if recipe.decay_norm or id(p) not in norm]
        spared = [p for p in of if not recipe.decay_norm and id(p) in norm]
        groups.append({"params": decayed, "weight_decay": recipe.weight_decay, "share": share})
        groups.append({"params": spared, "weight_decay": 0.0, "share": share})
    fused = next(net.parameters()).is_cuda or None  # None leaves it to torch
    sgd = SGD(
        [group for group in groups if group["params"]],
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=fused,
    )
    if not hidden:
        return [sgd]
    return [sgd, Muon(hidden, backbone_lr * recipe.muon_lr / recipe.lr, recipe.momentum, recipe.nesterov)]


def freeze_backbone(model: nn.Module) -> None:
    """Every layer but the last learns nothing more; batch norm keeps its statistics, see `Classifier`."""
    last = head_name(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.rsplit(".", 1)[0] == last)


class Muon(Optimizer):
    """Momentum made orthogonal, for convolutions: a filter is a row of a matrix (Jordan et al. 2024).

    The same step as torch.optim.Muon's on those matrices, with its factors. Torch takes one matrix after the other, 21 ms
    a step for ResNet-20's on two cores; here those of one shape are one product, 9 ms, and nothing looks at a value, so
    that a CUDA graph can hold the step.

    Args:
        weights: (O, I, h, w).
        share: of the schedule's rate.
    """

    def __init__(self, weights: Sequence[Tensor], share: float, momentum: float, nesterov: bool) -> None:
        alike: dict[torch.Size, list[Tensor]] = {}
        for weight in weights:
            alike.setdefault(weight.shape, []).append(weight)
        groups = [{"params": params} for params in alike.values()]
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
    """(N, r, c) float32 -> the same with all singular values between about 0.7 and 1.2, the singular vectors kept.

    Five steps of a polynomial that has them rise as steeply as they can; exactness would buy nothing (Jordan 2024).
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
