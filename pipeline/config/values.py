"""From nested values to a checked `Config`, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from pipeline.config.model import DECIDED, DETECTORS, backbone_facts, family_defaults
from pipeline.config.root import Config
from pipeline.config.section import shown
from pipeline.config.space import no_key, typed_space
from pipeline.config.stages import DataConfig
from pipeline.credentials import refusal
from pipeline.errors import PipelineError, printable

LONGEST = 800  # characters of a sentence
_NO_KEYS = ("Config", "bool")  # in pydantic's places of errors


def from_dict(values: dict[str, Any]) -> Config:
    """A checked Config; keys that `values` lacks take their defaults.

    Raises:
        PipelineError: one line a problem: which key, what was given, what is allowed.
    """
    from pydantic import ValidationError

    if sentence := refusal(values):
        raise PipelineError(sentence)
    try:
        config = _adapter().validate_python(filled(values))
    except ValidationError as error:
        raise PipelineError(_sentences(error.errors())) from None
    sweep = config.sweep
    space, search = typed_space(Config, sweep.space, "sweep.space"), sweep.search
    if search is not None:
        search = replace(search, space=typed_space(Config, search.space, "sweep.search.space"))
    return replace(config, sweep=replace(sweep, space=space, search=search))


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Config)


def filled(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with the defaults that depend on another key: the family's net, the crop of small images."""
    data, model, recipe = values.get("data"), values.get("model"), values.get("recipe")
    if isinstance(model, dict):
        values = {**values, "model": _filled_model(model)}
    augment = recipe.get("augment", {}) if isinstance(recipe, dict) else None
    if isinstance(data, dict) and isinstance(augment, dict):
        side = data.get("image_size", DataConfig.image_size)
        values = {**values, "recipe": {**recipe, "augment": {"crop": side, **augment}}}  # type: ignore[dict-item]
    return values


def _filled_model(model: dict[str, Any]) -> dict[str, Any]:
    family = str(model.get("family", "cifar"))
    if family not in DETECTORS:
        return {**(family_defaults(family) or family_defaults("cifar")), **model}  # an unknown one is refused alone
    facts = backbone_facts(str(model.get("backbone", "")))
    return {**model, **{key: facts[key] for key in DECIDED}}


def _sentences(errors: Sequence[Any]) -> str:
    """A line for each key; the kinds of a union, each of which refuses a value, share one."""
    lines: dict[str, str] = {}
    for error in errors:
        # Beside keys, pydantic names the kinds of a union, such as bool or dict[str,any].
        parts = [str(part) for part in error["loc"] if re.fullmatch(r"[\w.-]+", str(part)) and part not in _NO_KEYS]
        key = printable(".".join(parts) or "the configuration")
        if key in lines and "ctx" not in error:
            lines[key] += f" or {error['msg']}"
        else:
            lines.setdefault(key, _sentence(key, error))
    return "\n".join(lines.values())


def _sentence(key: str, error: Any) -> str:
    if error["type"] == "value_error":
        return "\n".join(printable(line, LONGEST) for line in str(error["ctx"]["error"]).splitlines())
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument", "invalid_key"):
        return f"{key} {no_key(key)}"
    if error["type"].startswith("missing"):
        return f"{key} has no value; set it in conf/ or on the command line ({key}=...)"
    quotes = ", in quotes" if error["type"] == "string_type" and not isinstance(error["input"], dict | list) else ""
    return f"{key}={shown(error['input'])}: {error['msg']}{quotes}"


def with_overrides(config: Config, overrides: dict[str, Any]) -> Config:
    """`config` with dotted keys replaced, checked again."""
    values = config.to_dict()
    for key, value in overrides.items():
        *parents, leaf = key.split(".")
        node = values
        for part in parents:
            node = node[part]
        node[leaf] = value
    return from_dict(values)


def leaves(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted keys and values of a nested mapping, in its order."""
    result = []
    for key, value in values.items():
        # A space is one value, not a tree of keys, and so is a sweep's search.
        if isinstance(value, dict) and f"{prefix}{key}" not in ("sweep.space", "sweep.search", "sweep.search.space"):
            result += leaves(value, f"{prefix}{key}.")
        else:
            result.append((f"{prefix}{key}", value))
    return result
