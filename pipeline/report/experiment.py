"""An experiment named by what was chosen: the command that makes it again, and the name of its published result."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

from pipeline.compose import AUTO, CHOICES, GROUPS, SHORT, compose_conf, read_mapping
from pipeline.config import filled, leaves

WEIGHTS = "start.weights"
NOWHERE = ("paths", "tracking", "choices")  # where files lie and runs are tracked decides no result
MIRROR = "data.mirror"  # nor does where an archive was found
# Nor do these, though a command has them; of the trainer's keys only sync_batchnorm does.
UNNAMED = ("trainer", "data.name", "data.path", "data.workers", "sweep.address")
LONGEST = 100  # characters of a name

Chosen = dict[str, Any]  # a choice by its group ("recipe"), a single value by its dotted key ("model.depth")


def chosen(values: dict[str, Any], root: Path) -> Chosen:
    """What makes the composed configuration `values` from conf/ alone, whatever params.yaml holds.

    A choice that the data set makes itself is left out.
    """
    recorded = values.get("choices") or {"data": values["data"]["name"]}
    own = compose_conf(root, {"data": recorded["data"]})
    suits = {**own["choices"], **{group: own[group].get(key) for group, key in SHORT.items()}}
    made = {**recorded, **{group: values[group][key] for group, key in SHORT.items()}}
    picks = {
        group: made[group]
        for group in CHOICES
        if group == "data" or (group not in NOWHERE and made.get(group, suits[group]) != suits[group])
    }
    # Sweeps refer to the weights to start from, which are none of a file's.
    weights = {WEIGHTS: values["start"]["weights"]} if values["start"]["weights"] else {}
    files = {group: name for group, name in picks.items() if group in GROUPS}
    short = {f"{group}.{SHORT[group]}": name for group, name in picks.items() if group in SHORT}
    there = dict(leaves(filled(compose_conf(root, files, {**short, **weights}))))
    apart = {key: value for key, value in leaves(values) if _decides(key) and there.get(key) != value}
    return {**picks, **weights, **apart}


def command(values: dict[str, Any], root: Path) -> str:
    """`dvc exp run` that makes the composed configuration `values`, in this workspace and in a fresh clone."""
    picked, params = chosen(values, root), read_mapping(root / "params.yaml")
    composed, here = dict(leaves(values)), {}
    for key, value in params.items():
        own = [(name, item) for name, item in leaves({key: value}) if item not in (None, AUTO)]
        if key in CHOICES and own and key not in NOWHERE:
            here[key] = AUTO
        elif key not in CHOICES:
            here |= {
                k: composed[k]
                for k, _ in (leaves(value or {}) if key == "set" else own)
                if _decides(k) and k in composed
            }
    words = [
        f"-S {shlex.quote(f'{key}={value}' if key in CHOICES else f'++set.{key}={_word(value)}')}"
        for key, value in {"data": picked["data"], **here, **picked}.items()
    ]
    return " ".join(["dvc exp run", *sorted(words, key=lambda word: "set." in word)])


def experiment_name(values: dict[str, Any], root: Path) -> str:
    """For a file: the data set, then what was chosen instead of its defaults. Two experiments never share one."""
    parts = [f"{key}.{_word(value)}" for key, value in chosen(values, root).items() if key != "data" and _named(key)]
    plain = "-".join([values["data"]["name"], *parts])
    safe = re.sub(r"[^\w.-]+", "_", plain).strip("_")
    if safe == plain and len(safe) <= LONGEST:
        return safe
    return f"{safe[: LONGEST - 9].rstrip('_')}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"


def _decides(key: str) -> bool:
    return key != MIRROR and not key.startswith(_dotted(NOWHERE))


def _named(key: str) -> bool:
    return key == "trainer.sync_batchnorm" or not f"{key}.".startswith(_dotted(UNNAMED))


def _dotted(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}." for name in names)


def _word(value: Any) -> str:
    """A value in Hydra's grammar, without quotes where it needs none."""
    if isinstance(value, list):
        return f"[{','.join(map(_word, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_word(item)}' for key, item in value.items())}}}"
    if not isinstance(value, str):
        return json.dumps(value)
    reserved = value.lower() in ("true", "false", "null", "none", "nan", "inf", "auto")
    if re.fullmatch(r"[A-Za-z/][\w./-]*", value) and not reserved:
        return value
    # Hydra's backslash stands for itself, but before a quote.
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value) + '"'
