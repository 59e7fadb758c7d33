"""Batch norm over the global batch on CPU ranks; torch's SyncBatchNorm refuses CPU tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from pytorch_lightning.plugins import LayerSync
from torch import Tensor, nn

from pipeline.fast.exchange import gather

Array = NDArray[np.float32]
LANES = 128  # channels from which on torch's kernels for channels_last are at their best
_BACKWARD = torch.ops.aten.native_batch_norm_backward.default


class CpuSyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics are those of all ranks' images together; same state-dict keys.

    Ranks must hold equally many values, as they do when the global batch divides over them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        return self._over_ranks(x)

    @torch.compiler.disable  # sockets and NumPy are nothing that could be compiled
    def _over_ranks(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None  # this project's nets keep running averages
        running = (self.running_mean.numpy(), self.running_var.numpy(), self.momentum)
        self.num_batches_tracked.numpy()[...] += 1
        return _OverRanks.apply(x, self.weight, self.bias, running, self.eps)


class _OverRanks(torch.autograd.Function):
    """Torch's own passes over the images, with one exchange between ranks in each direction.

    What is small, a number or two a channel, is NumPy's: torch takes longer to begin than to compute it. Each rank's
    gradient of weight and bias counts its own images alone, as DDP expects of a gradient that it averages.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, running: tuple[Array, Array, float], eps: float
    ) -> Tensor:
        """(B, C, H, W) -> the same, normalised.

        Args:
            running: mean and unbiased variance (C,), brought up to date here, and the momentum of both.
        """
        k, channels = _columns(x), x.shape[1]
        wide = _widened(x, k)
        like = torch.zeros(k * channels)  # running averages: the results are of their precision
        mean, var = torch.batch_norm_update_stats(wide, like, like, 0.0)
        parts = gather(mean.numpy(), var.numpy()).reshape(-1, 2, k, channels)
        share = 1 / (len(parts) * k)
        values = np.empty((4, channels), np.float32)
        values[0], values[1] = weight.detach().numpy(), bias.detach().numpy()
        values[2:] = np.add.reduce(parts, (0, 2)) * share
        apart = parts[:, 0] - values[2]
        values[3] += np.add.reduce(apart * apart, (0, 1)) * share
        running_mean, running_var, momentum = running
        count = len(parts) * x.numel() // channels
        running_mean += momentum * (values[2] - running_mean)
        running_var += momentum * (values[3] * (count / (count - 1)) - running_var)
        rows = _repeated(values, k)
        found = torch.empty_like(x)  # of its own: an in-place ReLU is refused a view of another's result
        _normalise(wide, rows, eps, _widened(found, k))
        ctx.save_for_backward(x)
        ctx.k, ctx.eps, ctx.rows = k, eps, rows
        ctx.slope = values[0] / np.sqrt(values[3] + np.float32(eps)) / np.float32(count)
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (x,), k = ctx.saved_tensors, ctx.k
        weight, _, mean, var = ctx.rows
        last = x.is_contiguous(memory_format=torch.channels_last)
        grad = grad.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        wide = _widened(x, k)
        fixed, of_weight, of_bias = _BACKWARD(
            _widened(grad, k), wide, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        sums = gather(of_weight.numpy(), of_bias.numpy()).reshape(-1, 2, k, x.shape[1])
        # What reaches x with mean and variance held fixed, less what reaches it through them.
        moving = _repeated(np.add.reduce(sums, (0, 2)) * ctx.slope, k)
        found = torch.empty_like(x)
        out = _widened(found, k)
        _normalise(wide, (*moving, mean, var), ctx.eps, out)
        torch.sub(fixed, out, out=out)
        of_weight, of_bias = torch.from_numpy(np.add.reduce(sums[dist.get_rank()], 1))
        return found, of_weight, of_bias, None, None


def _normalise(wide: Tensor, rows: Sequence[Tensor], eps: float, out: Tensor) -> None:
    """Into `out`: weight * (x - mean) / sqrt(var + eps) + bias; `rows` are weight, bias, mean and var."""
    (weight, bias, mean, var), nothing = rows, torch.empty(0)
    torch.native_batch_norm(wide, weight, bias, mean, var, False, 0.0, eps, out=(out, nothing, nothing))


def _repeated(values: Array, k: int) -> list[Tensor]:
    """(n, C) -> n times (kC,)."""
    return [torch.from_numpy(row) for row in (np.concatenate([values] * k, 1) if k > 1 else values)]


def _columns(x: Tensor) -> int:
    """How many columns of (B, C, H, W) `_widened` takes for one; 1 where it would not gain, or not be in channels_last."""
    _, channels, height, width = x.shape
    k = math.gcd(width, max(1, LANES // channels))
    return 1 if height * width == k or not x.is_contiguous(memory_format=torch.channels_last) else k


def _widened(x: Tensor, k: int) -> Tensor:
    """(B, C, H, W) in channels_last -> a view (B, kC, H, W/k): k columns are one, of k times the channels.

    Torch's kernels take one pixel's channels at a time, and 16 of them fill no vector register.
    """
    if k == 1:
        return x
    batch, channels, height, width = x.shape
    row, wide = width * channels, k * channels
    return x.as_strided((batch, wide, height, width // k), (height * row, 1, row, wide))


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
