"""What changes the weights: SGD with momentum (Sec. 3.4), and where a recipe asks for it Muon beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Muon, Optimizer

from pipeline.config import RecipeConfig


def optimisers(net: nn.Module, recipe: RecipeConfig) -> list[Optimizer]:
    """SGD of all weights; with recipe.muon_lr SGD of the first convolution, batch norm and the classifier, and Muon.

    A group's "share" of the schedule's rate is its own rate.
    """
    hidden = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)][1:] if recipe.muon_lr else []
    by_muon = {id(p) for p in hidden}
    norm = {id(p) for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) for p in m.parameters(False)}
    # Lists, not sets: a checkpoint holds momentum by position, and a set's order is another in each process.
    rest = [p for p in net.parameters() if id(p) not in by_muon]
    decayed = [p for p in rest if recipe.decay_norm or id(p) not in norm]
    spared = [p for p in rest if not recipe.decay_norm and id(p) in norm]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay, "share": 1.0},
        {"params": spared, "weight_decay": 0.0, "share": 1.0},
    ]
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
    return [sgd, ConvolutionMuon(hidden, recipe.muon_lr / recipe.lr, recipe.momentum, recipe.nesterov)]


class ConvolutionMuon(Muon):
    """torch's Muon, which knows matrices alone, for convolutions: a filter is a row (Jordan et al. 2024).

    Its decay of weights, a tenth of the learning rate a step, holds their length against what batch norm leaves free.

    Args:
        weights: (O, I, h, w), of which matrices (O, hwI) in the same memory are what is optimised.
        share: of the schedule's rate.
    """

    def __init__(self, weights: Sequence[Tensor], share: float, momentum: float, nesterov: bool) -> None:
        self._weights = list(weights)
        matrices = [nn.Parameter(_matrix(weight, weight)) for weight in self._weights]
        assert all(m.data_ptr() == w.data_ptr() for m, w in zip(matrices, self._weights, strict=True))
        super().__init__([{"params": matrices, "share": share}], momentum=momentum, nesterov=nesterov)

    def step(self, closure: Any = None) -> Any:
        for matrix, weight in zip(self.param_groups[0]["params"], self._weights, strict=True):
            assert weight.grad is not None
            matrix.grad = _matrix(weight.grad, weight)
        return super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for weight in self._weights:
            weight.grad = None


def _matrix(tensor: Tensor, weight: Tensor) -> Tensor:
    """(O, I, h, w) -> (O, n), columns in the order of `weight`'s memory; a view of a tensor that lies as `weight` does."""
    rows = tensor.detach() if weight.is_contiguous() else tensor.detach().permute(0, 2, 3, 1)
    return rows.flatten(1)
