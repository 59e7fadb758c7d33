"""Loads weights of other code into a net of this package, by the names that public code gives the layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from pipeline.errors import PipelineError

# Keys under which checkpoints keep their weights.
HOLDERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights", "params")
# A layer's name in other code, and here.
RENAMED = {"linear": "fc", "classifier": "fc", "head": "fc", "shortcut": "downsample"}
COUNTER = "num_batches_tracked"  # batch norm's counter, which is no weight
AUXILIARY = ("aux1.", "aux2.")  # GoogLeNet's classifiers that only training uses
MOST_NAMES = 8  # that an error lists


def state_in(loaded: Any) -> dict[str, Tensor]:
    """Weights by name, from a state dict or a checkpoint that holds one.

    Raises:
        PipelineError: no state dict, or several.
    """
    if not isinstance(loaded, Mapping):
        raise PipelineError(f"it holds a {type(loaded).__name__}, no weights by name; save the net's state_dict()")
    if _is_state(loaded):
        return {str(name): value for name, value in loaded.items()}
    states = {name: value for name, value in loaded.items() if isinstance(value, Mapping) and _is_state(value)}
    for name in (*HOLDERS, *(states if len(states) == 1 else ())):
        if name in states:
            return dict(states[name])
    count, keys = "several" if states else "no", ", ".join(map(str, list(loaded)[:MOST_NAMES]))
    raise PipelineError(f"it holds {count} state dicts (its keys: {keys}); save the net's state_dict()")


def mapped(weights: Mapping[str, Tensor], model: nn.Module, head: bool = True) -> dict[str, Tensor]:
    """A state dict for `model`, with `weights` under the model's own names.

    Names may have a prefix (`module.`) and parts of RENAMED. Weights under other names are refused: order and shape
    alone cannot tell two layers of one size apart.

    Args:
        head: whether to take the last layer's weights; if not, the model's own stay.
    Raises:
        PipelineError: names of weights that are missing, unknown to the model, or of another shape.
    """
    own = model.state_dict()
    kept = {name for name in own if name.endswith(COUNTER)}
    if not head:
        kept |= {name for name in own if name.rsplit(".", 1)[0] == head_name(model)}
    wanted = {name: tensor for name, tensor in own.items() if name not in kept}
    given = _renamed(_without_prefix(weights, own), own)
    given = {name: tensor for name, tensor in given.items() if name not in kept and not name.endswith(COUNTER)}
    given = {name: t for name, t in given.items() if name in wanted or not name.startswith(AUXILIARY)}
    if not head:
        given = _without_head(given, wanted, own[f"{head_name(model)}.weight"].shape[1])
    missing, extra = [n for n in wanted if n not in given], [n for n in given if n not in wanted]
    misshapen = [
        f"{n} {tuple(given[n].shape)} where {tuple(wanted[n].shape)} is wanted"
        for n in wanted
        if n in given and given[n].shape != wanted[n].shape
    ]
    if missing or extra or misshapen:
        raise PipelineError(_sentence(missing, extra, misshapen, given))
    return {**own, **{name: given[name].to(wanted[name].dtype) for name in wanted}}


def head_name(model: nn.Module) -> str:
    """Name of the last layer, the classifier."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]


def new_weights(model: nn.Module) -> set[str]:
    """Names of the parameters that start.weights leave as drawn: the last layer's, and all that a detector adds to its net."""
    head = head_name(model)
    return set(getattr(model, "new_weights", ())) or {
        name for name, _ in model.named_parameters() if name.rsplit(".", 1)[0] == head
    }


def _is_state(values: Mapping[Any, Any]) -> bool:
    return bool(values) and all(isinstance(value, Tensor) for value in values.values())


def _without_prefix(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without a prefix that all names share, such as wrappers of a net add."""
    layers = {name.split(".")[0] for name in own}
    state = dict(weights)
    while True:
        first = {name.split(".")[0] for name in state}
        if len(first) != 1 or first & layers or any("." not in name for name in state):
            return state
        state = {name.split(".", 1)[1]: tensor for name, tensor in state.items()}


def _renamed(weights: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in weights.items():
        here = ".".join(RENAMED.get(part, part) for part in name.split("."))
        taken = here in weights or here in renamed  # two names for one layer: the second is reported
        renamed[name if name in own or here not in own or taken else here] = tensor
    return renamed


def _without_head(given: dict[str, Tensor], wanted: Mapping[str, Tensor], width: int) -> dict[str, Tensor]:
    """Without a last layer of unknown name: the only matrix that takes `width` features and is not the model's."""
    heads = [n for n, t in given.items() if n not in wanted and t.ndim == 2 and t.shape[1] == width]
    if len(heads) != 1:
        return given
    layer = heads[0].rsplit(".", 1)[0]
    return {name: tensor for name, tensor in given.items() if name.rsplit(".", 1)[0] != layer}


def _sentence(missing: list[str], extra: list[str], misshapen: list[str], given: Mapping[str, Tensor]) -> str:
    parts = [f"it lacks {_listed(missing)}"] if missing else []
    parts += [f"it has {_listed(extra)} that the net has not"] if extra else []
    parts += [f"other shapes: {_listed(misshapen)}"] if misshapen else []
    layers = sum(t.ndim == 2 or (t.ndim == 4 and not _shortcut(name)) for name, t in given.items())
    return (
        f"{'; '.join(parts)}; its weights are those of {layers} layers: choose model.* for them, or rename them to the "
        "names that the net has"
    )


def _shortcut(name: str) -> bool:
    return bool({"downsample", "shortcut"} & set(name.split(".")))


def _listed(names: list[str]) -> str:
    rest = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")
