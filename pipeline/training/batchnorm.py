"""Batch norm over the global batch on CPU ranks; torch's SyncBatchNorm refuses CPU tensors."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins import LayerSync
from torch import Tensor, nn


class CpuSyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics are those of all ranks' images together; same state-dict keys.

    Ranks must hold equally many values, as they do when the global batch divides over them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        ranks = dist.get_world_size()
        wide = x.float()
        mean = _OverRanks.apply(wide.mean((0, 2, 3))) / ranks
        var = _OverRanks.apply((wide - mean[:, None, None]).square().mean((0, 2, 3))) / ranks
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None  # this project's nets keep running averages
        with torch.no_grad():
            values = ranks * x.numel() // x.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * values / (values - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], wide, scale[:, None, None]).to(x.dtype)


class _OverRanks(torch.autograd.Function):
    """Sum over ranks; so is the gradient, since what each rank makes of the sum counts."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    backward = forward


class CpuLayerSync(LayerSync):
    """Lightning's hook for replacing batch norm layers when training on several CPU ranks."""

    def apply(self, model: nn.Module) -> nn.Module:
        return _replace(model, nn.BatchNorm2d, CpuSyncBatchNorm2d)

    def revert(self, model: nn.Module) -> nn.Module:
        return _replace(model, CpuSyncBatchNorm2d, nn.BatchNorm2d)


def _replace(model: nn.Module, old: type[nn.BatchNorm2d], new: type[nn.BatchNorm2d]) -> nn.Module:
    for module in model.modules():
        if type(module) is old:
            module.__class__ = new
    return model
