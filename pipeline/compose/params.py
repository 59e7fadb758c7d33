"""params.yaml: choices and single values, taken as they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.compose.choices import CHOICES, GROUPS, SHORT, Choices, choose
from pipeline.config import Config, leaves
from pipeline.documents import read_mapping
from pipeline.errors import PipelineError

AUTO = "auto"  # conf/ decides
NAME = "name"  # the key of a section that names the file of conf/


def from_params(path: Path) -> tuple[Choices, dict[str, Any]]:
    """Choices and single values of params.yaml; auto and null leave a key to conf/."""
    params = read_mapping(path)
    any_key = params.pop("set", None) or {}
    if not isinstance(any_key, dict):
        raise PipelineError(f"{path.name}: set={any_key!r}; it takes keys and values, for example {{seed: 1}}")
    keys = [entry.name for entry in fields(Config) if entry.name != "choices"]
    if unknown := sorted(map(str, set(params) - set(keys))):
        raise PipelineError(
            f"{path.name} holds {', '.join(unknown)}; its keys are {', '.join(keys)} and set (a single value: set.model.depth)"
        )
    picked: Choices = {}
    values: dict[str, Any] = {}
    for key, value in params.items():
        choice, section = _section(path, key, value) if isinstance(value, dict) else (value, {})
        if key == "data" and choice in (None, AUTO):
            raise PipelineError(
                f"{path.name} holds data={choice or 'null'}, but dvc.yaml names files after the data set; name one (data: "
                "digits, or dvc exp run -S data=digits)"
            )
        values |= {name: item for name, item in leaves({key: section}) if item is not None}
        if choice not in (None, AUTO):
            choose(key, choice, picked, values)
    return picked, values | dict(leaves(any_key))


def _section(path: Path, key: str, section: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Choice and values of a section of params.yaml.

    A section without its choice lost it: `-S recipe=cifar_quick -S +recipe.lr=0.2` turns cifar_quick into {lr: 0.2}.
    """
    main = NAME if key in GROUPS else SHORT.get(key)
    if key == "data":
        words = " ".join(f"-S ++set.data.{name}={value}" for name, value in section.items())
        raise PipelineError(
            f"{path.name} holds data={section!r}; data takes only a name, and its values belong under set: "
            f"dvc exp run -S data=digits {words}, with the name of your data set in place of digits"
        )
    if main and main not in section:
        keys = ", ".join(f"{key}.{name}" for name in section) or "nothing"
        raise PipelineError(
            f"{path.name} holds {keys} and no {key}.{main}; write the choice as {key}.{main} beside such values: "
            f"dvc exp run -S ++{key}.{main}={AUTO}, with the name that you chose in place of {AUTO}"
        )
    return (section.get(main) if main else None), {name: value for name, value in section.items() if name != main}


def require_no_lost_value(words: Sequence[str]) -> None:
    """Checks the words of DVC's command: `-S recipe=x` replaces the section, with the values set earlier on the line.

    Only the command line still shows the lost values. The suggested spelling, with ++, works on the params.yaml that the
    refused command leaves. Of a queued experiment (`dvc exp run --queue`) the stages cannot see the command line.

    Raises:
        PipelineError: a choice follows a value of its section.
    """
    settings = [word.lstrip("+") for flag, word in pairwise(words) if flag in ("-S", "--set-param")]
    settings += [word.split("=", 1)[1].lstrip("+") for word in words if word.startswith("--set-param=")]
    for at, setting in enumerate(settings):
        key, _, choice = setting.partition("=")
        lost = [earlier for earlier in settings[:at] if earlier.startswith(f"{key}.")]
        if key in CHOICES and lost:
            spelling = " ".join(f"-S ++{word}" for word in (f"{key}.{SHORT.get(key, NAME)}={choice}", *lost))
            raise PipelineError(f"-S {setting} drops {' and '.join(lost)}, set before it; write {spelling}")
