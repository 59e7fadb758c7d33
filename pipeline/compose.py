"""Hydra at work: conf/, params.yaml and the command line become the values of one configuration.

DVC never composes for `dvc repro`, so composing is a stage of its own: it reads conf/ and params.yaml and writes
composed.yaml, and beside it what each later stage reads.

Hydra composes the files that were chosen. Single values are merged afterwards: those of params.yaml as they are written
there, those of the command line in Hydra's grammar.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

GROUPS = ("data", "recipe", "sweep", "tracking")  # a choice is a file of conf/<group>/
SHORT = {"model": "family", "ensemble": "selection", "evaluation": "views"}  # model=vgg_small is model.family=vgg_small
CHOICES = (
    "data",
    "model",
    "recipe",
    "sweep",
    "ensemble",
    "evaluation",
    "tracking",
)  # in the order of names and commands
AUTO = "auto"  # leave the choice to conf/
NAME = "name"  # of the file, where params.yaml holds a choice and values of its group
OWN = "folder"  # conf/data/folder.yaml is of any data set, which is named after its path
_ARCHIVE = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz|zip)$", re.IGNORECASE)
_MARK = re.compile("\ue000(\\d+)\ue001")  # stands for a literal value while interpolations are resolved

Choices = dict[str, str]


def compose(root: Path, overrides: list[str]) -> dict[str, Any]:
    """Values of the configuration, Hydra's choices under `choices`; paths still relative, nothing checked yet.

    Args:
        root: holds conf/ and params.yaml.
        overrides: as on the command line; they win over params.yaml.

    Raises:
        ValueError: what Hydra refuses, or a params.yaml of the wrong form.
    """
    picked, values = _from_params(root / "params.yaml")
    chosen, given = _from_command_line(overrides)
    return compose_conf(root, picked | chosen, values, given)


def compose_conf(
    root: Path, chosen: Choices, literal: dict[str, Any] | None = None, given: dict[str, Any] | None = None
) -> dict[str, Any]:
    """As `compose`, of choices and values by dotted key; the `literal` ones are no interpolations, the `given` ones win."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from pipeline.config import defaults

    literals = list((literal or {}).values())
    try:
        with initialize_config_dir(str((root / "conf").resolve()), version_base="1.3"):
            words = [f"{group}={name}" for group, name in chosen.items()]
            composed = hydra_compose("config", words, return_hydra_config=True)
        OmegaConf.set_struct(composed, False)
        choices = {group: composed.hydra.runtime.choices[group] for group in GROUPS}
        del composed["hydra"]
        merged = OmegaConf.merge(defaults(), composed)
        marked = {key: f"\ue000{index}\ue001" for index, key in enumerate(literal or {})}
        for key, value in (marked | (given or {})).items():
            OmegaConf.update(merged, key, value, merge=False, force_add=True)
        values = _unmarked(OmegaConf.to_container(merged, resolve=True, throw_on_missing=True), literals)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ValueError(_sentence(error, root)) from None
    values["data"].setdefault("name", _data_name(choices["data"], values["data"]))
    return {**values, "choices": choices}


def choices(root: Path) -> dict[str, list[str]]:
    """What `data=`, `recipe=`, `model=` and so on can be: files of conf/, or the values of a section's main key."""
    from typing import get_args, get_type_hints

    from pipeline.config import Config

    result = {}
    for group in CHOICES:
        if group in GROUPS:
            result[group] = sorted(path.stem for path in (root / "conf" / group).glob("*.yaml"))
        else:
            result[group] = list(get_args(get_type_hints(get_type_hints(Config)[group])[SHORT[group]]))
    return result


def _from_params(path: Path) -> tuple[Choices, dict[str, Any]]:
    """Choices and single values of params.yaml; auto and null leave a key to conf/."""
    from dataclasses import fields

    from pipeline.config import Config

    params = read_mapping(path)
    own = params.pop("set", None) or {}
    if not isinstance(own, dict):
        raise ValueError(f"{path.name}: set={own!r}; it takes keys and values, for example {{seed: 1}}")
    keys = [entry.name for entry in fields(Config) if entry.name != "choices"]
    if unknown := sorted(map(str, set(params) - set(keys))):
        raise ValueError(
            f"{path.name} holds {', '.join(unknown)}; its keys are {', '.join(keys)} and set (a single value: set.model.depth)"
        )
    picked: Choices = {}
    values: dict[str, Any] = {}
    for key, value in params.items():
        choice, section = _section(path, key, value) if isinstance(value, dict) else (value, {})
        values |= {name: item for name, item in leaves({key: section}) if item is not None}
        if choice in (None, AUTO):
            continue
        if key in GROUPS:
            picked[key] = str(choice)
        else:
            values[f"{key}.{SHORT[key]}" if key in SHORT else key] = choice
    return picked, values | dict(leaves(own))


def require_no_lost_value(words: Sequence[str]) -> None:
    """Checks DVC's command line: `-S recipe=x` replaces the whole section, and with it the values set before it.

    params.yaml no longer shows them, so only the command line can. The spelling with ++ also mends the changed params.yaml.

    Args:
        words: of the command.

    Raises:
        ValueError: a choice follows a value of its section.
    """
    settings = [word.lstrip("+") for flag, word in pairwise(words) if flag in ("-S", "--set-param")]
    settings += [word.split("=", 1)[1].lstrip("+") for word in words if word.startswith("--set-param=")]
    for at, setting in enumerate(settings):
        key, _, choice = setting.partition("=")
        lost = [earlier for earlier in settings[:at] if earlier.startswith(f"{key}.")]
        if key in CHOICES and lost:
            spelling = " ".join(f"-S ++{word}" for word in (f"{key}.{SHORT.get(key, NAME)}={choice}", *lost))
            raise ValueError(f"-S {setting} drops {' and '.join(lost)}, set before it; write {spelling}")


def _section(path: Path, key: str, section: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Choice and values of a section of params.yaml.

    `-S recipe=cifar_quick -S +recipe.lr=0.2` makes {lr: 0.2} of cifar_quick, so a choice that is missing was lost.
    """
    main = NAME if key in GROUPS else SHORT.get(key)
    if key == "data":
        raise ValueError(
            f"{path.name} holds data={section!r}; data takes a name alone, its values stand under set: "
            f"dvc exp run -S data=digits -S ++set.data.{next(iter(section), 'path')}=..."
        )
    if main and main not in section:
        keys = ", ".join(f"{key}.{name}" for name in section) or "nothing"
        raise ValueError(
            f"{path.name} holds {keys} and no {key}.{main}; beside values, {key}=... is {key}.{main}=...: "
            f"dvc exp run -S ++{key}.{main}={AUTO}, or the name that you chose in place of {AUTO}"
        )
    return (section.get(main) if main else None), {name: value for name, value in section.items() if name != main}


def _from_command_line(overrides: list[str]) -> tuple[Choices, dict[str, Any]]:
    """Choices and single values of Hydra's overrides."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    chosen, values = {}, {}
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
        except HydraException as error:
            raise ValueError(f"{override}: {_first_lines(error)}") from None
        key = parsed.key_or_group
        if parsed.is_delete() or parsed.is_sweep_override():
            raise ValueError(f"{override}: give a key one value (override: {key}=...)")
        if key in GROUPS:
            chosen[key] = str(parsed.value())
        else:
            values[f"{key}.{SHORT[key]}" if key in SHORT else key] = parsed.value()
    return chosen, values


def _unmarked(value: Any, literals: list[Any]) -> Any:
    """`value` with the literals in the places of their marks."""
    if isinstance(value, dict):
        return {_unmarked(key, literals): _unmarked(item, literals) for key, item in value.items()}
    if isinstance(value, list):
        return [_unmarked(item, literals) for item in value]
    if isinstance(value, str) and (whole := _MARK.fullmatch(value)):
        return literals[int(whole[1])]
    return _MARK.sub(lambda mark: str(literals[int(mark[1])]), value) if isinstance(value, str) else value


def _data_name(choice: str, data: dict[str, Any]) -> str:
    path = str(data.get("path") or "")
    return _ARCHIVE.sub("", Path(path).name) if choice == OWN and path else choice


def read_mapping(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file; none of an empty one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no YAML, or something else than keys and values.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is no YAML: {_first_lines(error)}; mend it, or take git's: git restore {path.name}"
        ) from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}, no keys and values")
    return values


def leaves(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted keys and values of a nested mapping, in its order."""
    result = []
    for key, value in values.items():
        # A sweep's space is one value, not a tree of keys.
        if isinstance(value, dict) and f"{prefix}{key}" != "sweep.space":
            result += leaves(value, f"{prefix}{key}.")
        else:
            result.append((f"{prefix}{key}", value))
    return result


def _sentence(error: Exception, root: Path) -> str:
    """Hydra's own, but for a choice that is none."""
    if (result := re.search(r"Could not find '(\w+)/([^']+)'", str(error))) and result[1] in GROUPS:
        group, name = result.groups()
        return f"{group}={name}: there is no conf/{group}/{name}.yaml; choose one of {', '.join(choices(root)[group])}"
    return _first_lines(error)


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])
