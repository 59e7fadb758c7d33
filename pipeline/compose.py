"""Hydra at work: conf/, params.yaml and the command line become one resolved configuration.

DVC never composes for `dvc repro`, so composing is a stage of its own: it reads conf/ and params.yaml and writes
composed.yaml, and every later stage declares the keys of composed.yaml that it reads.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

CHOICES = ("data", "model", "recipe", "sweep", "ensemble", "evaluation", "trainer", "tracking")
AUTO = "auto"  # leave the choice to conf/


def compose(root: Path, overrides: list[str]) -> dict[str, Any]:
    """Plain values of the composed configuration; paths still relative.

    Args:
        root: holds conf/ and params.yaml.
        overrides: Hydra's, as on the command line; they win over params.yaml.

    Raises:
        ValueError: Hydra's complaint, a params.yaml of the wrong form, or a data.name that is not the chosen file's.
    """
    chosen = _from_params(root / "params.yaml")
    given = {_key(o) for o in overrides}
    return compose_conf(root, [*(o for o in chosen if _key(o) not in given), *overrides])


def compose_conf(root: Path, overrides: list[str]) -> dict[str, Any]:
    """As `compose`, without params.yaml."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        with initialize_config_dir(str((root / "conf").resolve()), version_base="1.3"):
            parts = [part for override in overrides for part in _replacing(override)]
            composed = hydra_compose("config", parts, return_hydra_config=True)
        OmegaConf.set_struct(composed, False)
        choice = composed.pop("hydra").runtime.choices["data"]
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ValueError(_sentence(error, root)) from None
    assert isinstance(values, dict)
    name = values.get("data", {}).get("name", choice)
    if name != choice:  # dvc.yaml names its outs after the choice, the stages write where data.name says
        raise ValueError(
            f"data.name={name} with data={choice}; the two must be equal: copy conf/data/{choice}.yaml to "
            f"conf/data/{name}.yaml, change the name in it, and choose it (override: data={name})"
        )
    return values  # type: ignore[return-value]


def choices(root: Path) -> dict[str, list[str]]:
    """The files of each group of conf/: what `data=`, `recipe=` and so on can be."""
    return {group: sorted(p.stem for p in (root / "conf" / group).glob("*.yaml")) for group in CHOICES}


def _from_params(path: Path) -> list[str]:
    """params.yaml as Hydra overrides, in its own order."""
    params = read_mapping(path)
    unknown = set(params) - {*CHOICES, "set"}
    if unknown:
        raise ValueError(
            f"params.yaml holds {', '.join(sorted(unknown))}; its keys are {', '.join(CHOICES)} and set (a single value: set.model.depth)"
        )
    if not isinstance(params.get("set") or {}, dict):
        raise ValueError(f"params.yaml: set={params['set']!r}; it takes keys and values, for example {{seed: 1}}")
    picked = [f"{group}={params[group]}" for group in CHOICES if params.get(group, AUTO) != AUTO]
    return picked + [f"{key}={literal(value)}" for key, value in leaves(params.get("set") or {})]


def read_mapping(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file; none of an empty one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no YAML, or something else than keys and values.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {_first_lines(error)}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}, no keys and values")
    return values


def leaves(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted keys and values of a nested mapping, in its order."""
    found = []
    for key, value in values.items():
        # A sweep's space is one value, not a tree of keys.
        if isinstance(value, dict) and f"{prefix}{key}" != "sweep.space":
            found += leaves(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def literal(value: Any) -> str:
    """A YAML value in Hydra's override grammar, which reads JSON's scalars and lists but bare keys in a mapping."""
    if isinstance(value, list):
        return "[" + ",".join(map(literal, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{literal(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def _replacing(override: str) -> list[str]:
    """Hydra merges mappings; a search space that is given replaces the one in conf/."""
    return ["~sweep.space", f"+{override}"] if override.startswith("sweep.space=") else [override]


def _key(override: str) -> str:
    return override.lstrip("+~").split("=", 1)[0].split("@")[0]


def _sentence(error: Exception, root: Path) -> str:
    """Hydra's own, but for the two mistakes of which it tells too little, or to write a key that no code reads."""
    text = str(error)
    if found := re.search(r"Could not override '([^']+)'\.", text):
        return f"{found[1]} is no key of the configuration; see `pipeline train --cfg job` for the keys"
    if (found := re.search(r"Could not find '(\w+)/([^']+)'", text)) and found[1] in CHOICES:
        group, name = found.groups()
        return f"{group}={name}: there is no conf/{group}/{name}.yaml; choose one of {', '.join(choices(root)[group])}"
    return _first_lines(error)


def _first_lines(error: Exception) -> str:
    override = getattr(error, "override", None)  # of Hydra's parser, which does not repeat it
    lines = [f"{override}:"] if override else []
    lines += [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])
