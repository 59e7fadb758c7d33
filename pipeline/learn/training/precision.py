"""Which arithmetic recipe.precision comes to on the hardware at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def resolve(precision: str, accelerator: str) -> str:
    """fp32, tf32 or bf16. auto is bf16 where the hardware multiplies it (CUDA from Ampere on, CPUs with AMX), else fp32.

    Weights, batch norm statistics and the optimiser stay in fp32 in any case (automatic mixed precision).

    Raises:
        ValueError: tf32 was asked for and there is no GPU that multiplies it.
    """
    cuda = uses_cuda(accelerator)
    if precision == "tf32" and not (cuda and torch.cuda.is_tf32_supported()):
        raise ValueError(
            "recipe.precision=tf32 is how NVIDIA's GPUs from Ampere on multiply, and training is to run on other "
            "hardware; use recipe.precision=fp32, bf16 or auto"
        )
    if precision != "auto":
        return precision
    if cuda:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu._is_amx_tile_supported() else "fp32"


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """For the block, products of float32 factors on CUDA round these to TF32 where `precision` is tf32, and only there.

    torch's own default lets convolutions round, which leaves little of a deep plain net's first gradients
    (docs/performance.md, "Rounding and depth").
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


def uses_cuda(accelerator: str) -> bool:
    """Whether `trainer.accelerator` means a GPU here.

    Raises:
        ValueError: gpu was asked for and there is none.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ValueError("trainer.accelerator=gpu, but torch finds no CUDA device; use trainer.accelerator=cpu or auto")
    return accelerator != "cpu" and torch.cuda.is_available()
