"""Batch norm over the global batch for CPU ranks, since torch's SyncBatchNorm refuses CPU tensors."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins import LayerSync
from torch import Tensor, nn

_BACKWARD = torch.ops.aten.native_batch_norm_backward.default


class CpuSyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d with training statistics over all ranks' images and the same state-dict keys.

    All ranks must hold equally many values, as they do if the global batch divides by their number.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        return self._over_ranks(x)

    @torch.compiler.disable  # compiled code would need functional collectives
    def _over_ranks(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None  # this project's nets keep running averages
        with torch.no_grad():
            mean, var = _global_statistics(x)
            count = dist.get_world_size() * x.numel() // x.shape[1]
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / (count - 1)), self.momentum)  # unbiased, as torch keeps it
        return _Normalise.apply(x, self.weight, self.bias, mean, var, self.eps)


class _Normalise(torch.autograd.Function):
    """Batch norm with given statistics, through which the gradient also reaches every rank's images.

    A rank's gradient of weight and bias covers its own images only, since DDP averages gradients over ranks.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        return torch.nn.functional.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        x, weight, mean, var = ctx.saved_tensors
        last = x.is_contiguous(memory_format=torch.channels_last)
        grad = grad.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        mask = [True, True, True]
        fixed, weight_grad, bias_grad = _BACKWARD(grad, x, weight, mean, var, None, None, False, ctx.eps, mask)
        total = torch.stack((weight_grad, bias_grad))
        dist.all_reduce(total)
        count = dist.get_world_size() * x.numel() // x.shape[1]
        slope = weight / (var + ctx.eps).sqrt() / count
        # The gradient of x with mean and variance fixed, less the part through them, which is itself a batch norm of x:
        # slope * (normalised x * sum of weight's gradient + sum of bias's gradient).
        through = torch.nn.functional.batch_norm(x, mean, var, total[0] * slope, total[1] * slope, False, 0.0, ctx.eps)
        return fixed.sub_(through), weight_grad, bias_grad, None, None, None


def _global_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) over the images of all ranks."""
    unused = torch.zeros(x.shape[1])
    mean, var = torch.batch_norm_update_stats(x, unused, unused, 0.0)
    parts = torch.empty(dist.get_world_size(), 2, len(mean))
    dist.all_gather_into_tensor(parts.view(-1), torch.cat((mean, var)))
    means, variances = parts.unbind(1)
    total = means.mean(0)
    return total, variances.mean(0) + (means - total).square().mean(0)


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
