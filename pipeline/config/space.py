"""The values that a sweep or a search tries: each is checked, and read, as the key's own value is."""

from __future__ import annotations

from dataclasses import is_dataclass
from functools import cache
from typing import Any

from pipeline.config.section import kinds, refused, shown
from pipeline.errors import PipelineError, printable

DISTRIBUTIONS = ("uniform", "loguniform")  # by their names in ray.tune


def kind_of(root: type, key: str) -> Any:
    """Type of a dotted key of the section `root`; None for what is no key, or a section."""
    kind: Any = root
    for part in key.split("."):
        kind = kinds(kind).get(part) if isinstance(kind, type) and is_dataclass(kind) else None
    return None if isinstance(kind, type) and is_dataclass(kind) else kind


def no_key(key: str) -> str:
    """The end of a sentence about a text that is no key."""
    from pipeline.config.reference import similar

    alike = similar(key)
    return f"is no key of the configuration{f' (did you mean {alike}?)' if alike else ''}; `pipeline keys` lists all"


def typed_space(root: type, space: Any, name: str) -> Any:
    """`space`, called `name`, with every value as its key's type: `1e-3`, a text in YAML 1.1, as a number.

    Raises:
        PipelineError: what is no key, no list and no range, or a value that the key does not take.
    """
    if isinstance(space, list):
        return [typed_space(root, grid, name) for grid in space]
    return {key: _typed_values(root, key, values, name) for key, values in space.items()}


def _typed_values(root: type, key: str, values: Any, name: str) -> Any:
    if kind_of(root, key) is None:
        raise PipelineError(f"{name} names {printable(key)}, which {no_key(key)}")
    if isinstance(values, list) and values:
        return [_typed(root, key, value, name) for value in values]
    if not isinstance(values, dict) or len(values) != 1 or not _two(values):
        raise PipelineError(
            f"{name}: {key} is {shown(values)}; give a list of values, or {{uniform: [low, high]}} or {{loguniform: [low, high]}}"
        )
    (distribution, ends), kind = next(iter(values.items())), kind_of(root, key)
    if getattr(kind, "__origin__", kind) is not float:
        raise PipelineError(
            f"{name}: {key} is {shown(values)}; only keys that take fractions have ranges: list its values"
        )
    low, high = (_typed(root, key, end, name) for end in ends)
    if not low < high or (distribution == "loguniform" and low <= 0):
        lowest = " above 0" if distribution == "loguniform" else ""
        raise PipelineError(f"{name}: {key} is {shown(values)}; the first end must be the lower one{lowest}")
    return {distribution: [low, high]}


def _two(values: dict[Any, Any]) -> bool:
    distribution, ends = next(iter(values.items()))
    return distribution in DISTRIBUTIONS and isinstance(ends, list) and len(ends) == 2


def _typed(root: type, key: str, value: Any, name: str) -> Any:
    from pydantic import ValidationError

    kind = kind_of(root, key)
    try:
        result = _adapter(root, key).validate_python(value)
    except ValidationError as error:
        messages = " or ".join(dict.fromkeys(problem["msg"] for problem in error.errors()))
        raise PipelineError(f"{name}: {key}={shown(value)}: {messages}") from None
    if refusal := refused(kind, result):
        raise PipelineError(f"{name}: {key}={shown(value)}; {refusal}")
    return result


@cache
def _adapter(root: type, key: str) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind_of(root, key))
