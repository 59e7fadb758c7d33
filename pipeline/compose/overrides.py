"""The command line: choices and single values, in the grammar of Hydra's overrides."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from pipeline.compose.choices import CHOICES, Choices, choose
from pipeline.config import Config, kind_of, leaves
from pipeline.documents import KEY, first_lines
from pipeline.errors import PipelineError, printable

SPACES = ("sweep.space", "sweep.search.space")
_KEY = re.compile(rf"(?<=[\[,\s])({KEY.pattern})(?=[\],\s])")  # not in quotes
_GRAMMAR = re.compile(r"""^\s*["']|\\|\$\{""")  # a value in quotes, escapes and interpolations


def from_overrides(overrides: list[str]) -> tuple[Choices, dict[str, Any]]:
    """Choices and single values of Hydra's overrides."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    chosen: Choices = {}
    values: dict[str, Any] = {}
    for override in overrides:
        if not re.match(r"~|\+*[^+=][^=]*=", override):
            raise PipelineError(f"{printable(override)} is no override; write key=value, such as seed=1")
        key, text = override.lstrip("+").partition("=")[::2]
        _require_whole_space(key, overrides)
        # Hydra's grammar knows neither ~ nor letters beyond ASCII; a text that has nothing of the grammar is taken as it is.
        is_text = kind_of(Config, key) is str or (key in CHOICES and not re.search("[,{]", text))
        if text and is_text and not _GRAMMAR.search(text) and text.lower() != "null":
            choose(key, text.strip(), chosen, values)
            continue
        keys = kind_of(Config, key) == list[str]  # of runs, which may look like numbers
        try:
            parsed = OverridesParser.create().parse_override(_KEY.sub(r"'\g<0>'", override) if keys else override)
            key, value = parsed.key_or_group, parsed.value()
        except (HydraException, RecursionError, ValueError) as error:
            raise PipelineError(f"{printable(override)}: {first_lines(error)}") from None
        if parsed.is_sweep_override() and "." in key:
            raise PipelineError(f"{printable(override)}: give a key one value, or run `{as_sweep(overrides)}`")
        if parsed.is_delete() or parsed.is_sweep_override():
            raise PipelineError(f"{printable(override)}: give a key one value (override: {key}=...)")
        section = isinstance(value, dict) and kind_of(Config, key) is None  # whose other keys stay as they are
        for name, item in leaves({key: value}) if section else [(key, value)]:
            choose(name, item, chosen, values)
    return chosen, values


def _require_whole_space(key: str, overrides: list[str]) -> None:
    """Raises PipelineError for a key below a space, whose own keys have dots in them."""
    space = next((space for space in SPACES if key.startswith(f"{space}.")), "")
    if space:
        given = [word.lstrip("+").partition("=") for word in overrides if word.lstrip("+").startswith(f"{space}.")]
        keys = (f"{name[len(space) + 1 :]}:{text if text[:1] in '[{' else f'[{text}]'}" for name, _, text in given)
        advice = shlex.quote(f"{space}={{{','.join(keys)}}}")
        raise PipelineError(
            f"{printable(key)} is no key; {space} is one value, with all that it varies (override: {advice})"
        )


def as_sweep(overrides: Sequence[str]) -> str:
    """The command that trains each combination of overrides such as `model.depth=20,32`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    space, others = [], []
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
            varied = parsed.is_sweep_override() and not parsed.is_delete() and "." in parsed.key_or_group
        except (HydraException, RecursionError, ValueError):  # as of ~, see `from_overrides`
            varied = False
        if varied:
            space.append(f"{parsed.key_or_group}:[{','.join(map(str, parsed.sweep_iterator()))}]")
        elif not override.startswith("-"):
            others.append(override)
    given = ",".join(space) or "model.depth:[20,32],recipe.lr:[0.1,0.05]"
    return shlex.join(["pipeline", "sweep", f"sweep.space={{{given}}}", *others])
