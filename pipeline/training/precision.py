"""Which arithmetic recipe.precision comes to on the hardware at hand."""

from __future__ import annotations

import torch


def resolve(precision: str, accelerator: str) -> str:
    """fp32 or bf16. auto is bf16 where the hardware multiplies it: CUDA from Ampere on, CPUs with AMX.

    Weights, batch norm statistics and the optimiser stay in fp32 either way (automatic mixed precision). On CUDA fp32
    is as torch has it: convolutions round to TF32 in training, the last layer's matrix product does not, evaluation
    rounds nowhere.
    """
    if precision != "auto":
        return precision
    if uses_cuda(accelerator):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu._is_amx_tile_supported() else "fp32"


def uses_cuda(accelerator: str) -> bool:
    """Whether `trainer.accelerator` means a GPU here.

    Raises:
        ValueError: gpu was asked for and there is none.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ValueError("trainer.accelerator=gpu, but torch finds no CUDA device; use trainer.accelerator=cpu or auto")
    return accelerator != "cpu" and torch.cuda.is_available()
