"""Weights that other code made, onto a net of this package: by name, or by what public code calls the layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

# Where checkpoints keep their weights.
HOLDERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights", "params")
# A layer's name elsewhere, and here.
ELSEWHERE = {"linear": "fc", "classifier": "fc", "head": "fc", "shortcut": "downsample"}
COUNTER = "num_batches_tracked"  # of batch norm, no weight
AUXILIARY = ("aux1.", "aux2.")  # GoogLeNet's classifiers that only training uses
SHOWN = 8  # names of a kind in an error


def state_in(loaded: Any) -> dict[str, Tensor]:
    """The weights by name, in a state dict or in a checkpoint that holds one.

    Raises:
        ValueError: no state dict, or several.
    """
    if not isinstance(loaded, Mapping):
        raise ValueError(f"it holds a {type(loaded).__name__}, no weights by name; save the net's state_dict()")
    if _is_state(loaded):
        return {str(name): value for name, value in loaded.items()}
    held = {name: value for name, value in loaded.items() if isinstance(value, Mapping) and _is_state(value)}
    for name in HOLDERS:
        if name in held:
            return dict(held[name])
    if len(held) == 1:
        return dict(next(iter(held.values())))
    keys = ", ".join(map(str, list(loaded)[:8]))
    raise ValueError(
        f"it holds {'several' if held else 'no'} state dicts (its keys: {keys}); save the net's state_dict()"
    )


def mapped(found: Mapping[str, Tensor], model: nn.Module, head: bool = True) -> dict[str, Tensor]:
    """A state dict of `model` with the weights of `found`.

    Names may carry prefixes (`module.`), or be those of ELSEWHERE. Weights under other names are refused: order and shape
    alone cannot tell two layers of one size apart.

    Args:
        head: whether the last layer's weights are taken too; without, they stay the model's.
    Raises:
        ValueError: weights that are missing, not wanted, or of another shape, with their names.
    """
    own = model.state_dict()
    kept = {name for name in own if name.endswith(COUNTER)}
    if not head:
        kept |= {name for name in own if name.rsplit(".", 1)[0] == head_name(model)}
    wanted = {name: tensor for name, tensor in own.items() if name not in kept}
    given = _renamed(_without_prefix(found, own), own)
    given = {name: tensor for name, tensor in given.items() if name not in kept and not name.endswith(COUNTER)}
    given = {name: t for name, t in given.items() if name in wanted or not name.startswith(AUXILIARY)}
    if not head:
        given = _without_head(given, wanted, own[f"{head_name(model)}.weight"].shape[1])
    missing, extra = [n for n in wanted if n not in given], [n for n in given if n not in wanted]
    apart = [n for n in wanted if n in given and given[n].shape != wanted[n].shape]
    if missing or extra or apart:
        raise ValueError(_sentence(missing, extra, apart, given, wanted))
    return {**own, **{name: given[name].to(wanted[name].dtype) for name in wanted}}


def head_name(model: nn.Module) -> str:
    """Name of the last layer, which tells the classes apart."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]


def _is_state(values: Mapping[Any, Any]) -> bool:
    return bool(values) and all(isinstance(value, Tensor) for value in values.values())


def _without_prefix(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what every name starts with, as wrappers of a net add it."""
    layers = {name.split(".")[0] for name in own}
    state = dict(found)
    while True:
        first = {name.split(".")[0] for name in state}
        if len(first) != 1 or first & layers or any("." not in name for name in state):
            return state
        state = {name.split(".", 1)[1]: tensor for name, tensor in state.items()}


def _renamed(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in found.items():
        here = ".".join(ELSEWHERE.get(part, part) for part in name.split("."))
        taken = here in found or here in renamed  # two names for one layer: the second is reported
        renamed[name if name in own or here not in own or taken else here] = tensor
    return renamed


def _without_head(given: dict[str, Tensor], wanted: Mapping[str, Tensor], width: int) -> dict[str, Tensor]:
    """Without a last layer under a name of its own: the one matrix that takes `width` features and has no place here."""
    heads = [n for n, t in given.items() if n not in wanted and t.ndim == 2 and t.shape[1] == width]
    if len(heads) != 1:
        return given
    layer = heads[0].rsplit(".", 1)[0]
    return {name: tensor for name, tensor in given.items() if name.rsplit(".", 1)[0] != layer}


def _sentence(
    missing: list[str], extra: list[str], apart: list[str], given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> str:
    parts = []
    if missing:
        parts.append(f"it lacks {_listed(missing)}")
    if extra:
        parts.append(f"it has {_listed(extra)} that the net has not")
    if apart:
        shapes = [f"{n} {tuple(given[n].shape)} where {tuple(wanted[n].shape)} is wanted" for n in apart]
        parts.append(f"other shapes: {_listed(shapes)}")
    convolutions = sum(t.ndim == 4 and not _shortcut(name) for name, t in given.items())
    fully = sum(t.ndim == 2 for t in given.values())
    return (
        f"{'; '.join(parts)}; its weights are those of {convolutions + fully} layers: choose model.* for them, or rename them "
        "to the names that the net has"
    )


def _shortcut(name: str) -> bool:
    return bool({"downsample", "shortcut"} & set(name.split(".")))


def _listed(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
