"""Which files of conf/, and which values of a section's main key, a configuration chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config import Config

GROUPS = ("data", "recipe", "sweep", "cluster", "tracking")  # a choice names a file of conf/<group>/
SHORT = {"model": "family", "ensemble": "selection", "evaluation": "views"}  # model=vgg_small is model.family=vgg_small
# In the order of an experiment's name and command.
CHOICES = ("data", "model", "recipe", "sweep", "ensemble", "evaluation", "cluster", "tracking")

Choices = dict[str, str]


def choices(root: Path, own: Path | None = None) -> dict[str, list[str]]:
    """What `data=`, `recipe=`, `model=` and so on accept: files of conf/ and `own`, or the values of a section's main key."""
    from typing import get_args, get_type_hints

    def allowed(group: str) -> list[str]:
        if group in GROUPS:
            folders = (root / "conf", *([own] if own else []))
            return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})
        return list(get_args(get_type_hints(get_type_hints(Config)[group])[SHORT[group]]))

    return {group: allowed(group) for group in CHOICES}


def choose(key: str, value: Any, picked: Choices, values: dict[str, Any]) -> None:
    """Puts `key=value` where it belongs: a file of conf/ among the choices, anything else among the values."""
    if key in GROUPS:
        picked[key] = str(value)
    else:
        values[f"{key}.{SHORT[key]}" if key in SHORT else key] = value
