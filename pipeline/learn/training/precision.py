"""Resolves recipe.precision and trainer.accelerator on the hardware at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.errors import PipelineError


def resolve(precision: str, accelerator: str) -> str:
    """fp32, tf32 or bf16. auto is bf16 if the hardware multiplies it (CUDA from Ampere on, CPUs with AMX
    or AVX-512 bf16), else fp32.

    Weights, batch norm statistics and the optimiser always stay in fp32 (automatic mixed precision), but for Muon's products.

    Raises:
        PipelineError: tf32 without a GPU that multiplies it.
    """
    cuda = uses_cuda(accelerator)
    if precision == "tf32" and not (cuda and torch.cuda.is_tf32_supported()):
        raise PipelineError(
            "recipe.precision=tf32 is how NVIDIA's GPUs from Ampere on multiply, and training is to run on other "
            "hardware; use recipe.precision=fp32, bf16 or auto"
        )
    if precision != "auto":
        return precision
    if cuda:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"  # CPUs with AMX have it too


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """For the block, lets CUDA round the factors of float32 products to TF32 if `precision` is tf32, and only then.

    torch's own default rounds them in convolutions, which destroys the first gradients of a deep plain net
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
        PipelineError: trainer.accelerator=gpu without a GPU.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise PipelineError(
            "trainer.accelerator=gpu, but torch finds no CUDA device; use trainer.accelerator=cpu or auto"
        )
    return accelerator != "cpu" and torch.cuda.is_available()
