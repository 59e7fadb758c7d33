"""A training that diverges: noticed before anything of it is saved, and explained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from torch import Tensor
from torch.nn.utils import get_total_norm

from pipeline.config import RecipeConfig
from pipeline.errors import PipelineError

LISTED = 8  # images of a batch in the sentence


class DivergedError(PipelineError):
    """The training loss, a weight or the optimiser's state is not finite.

    Attributes:
        images: indices, in the store, of the batch with the first loss that is not finite.
    """

    def __init__(self, sentence: str, images: Sequence[int] = ()) -> None:
        super().__init__(sentence)
        self.images = list(images)


def finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all values are finite, with one wait for the device."""
    floating = [tensor.detach() for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    return not floating or bool(get_total_norm(floating, math.inf).isfinite())


def diverged(what: str, step: int, rate: float, images: Sequence[int], recipe: RecipeConfig) -> DivergedError:
    """The error for a training that diverged.

    Args:
        what: is not finite, for example "the training loss is nan".
        step: the first with a loss that is not finite, or the last one made.
        rate: its learning rate.
        images: of its batch.
    """
    batch = f"{', '.join(map(str, images[:LISTED]))}{', ...; run.json lists all' if len(images) > LISTED else ''}"
    where = f"{what} at step {step} (learning rate {rate:g}, training images {batch})"
    if step == 1:  # its loss is that of the first weights
        return DivergedError(
            f"{where}, before the first update, so the first weights are the cause (start.weights, model.norm_scale)",
            images,
        )
    lower = "recipe.warmup_lr" if rate == recipe.warmup_lr else "recipe.lr"
    more = "" if recipe.warmup_lr else " or add a warm-up (recipe.warmup_lr)"
    return DivergedError(f"{where}; lower {lower} ({getattr(recipe, lower[7:]):g}){more}", images)
