"""An experiment by its choices: the command that repeats it, and the name of its published result."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

from pipeline.compose import AUTO, CHOICES, GROUPS, SHORT, choices, compose_conf
from pipeline.config import DETECTORS, OTHER_DEPTHS, filled, leaves
from pipeline.documents import read_mapping

WEIGHTS = "start.weights"
NOWHERE = ("paths", "tracking", "cluster", "choices")  # locations of files and runs decide no result
MIRROR = "data.mirror"  # nor does the source of an archive
# Part of the command but not of the name, since they decide no result either, with exceptions.
UNNAMED = ("trainer", "data.name", "data.path", "data.workers")
NAMED = ("trainer.sync_batchnorm", "trainer.val_every_epochs", "trainer.callbacks")
RANKS = ("trainer.devices", "trainer.num_nodes")  # named where their number decides the weights
LONGEST = 100  # characters of a name

Chosen = dict[str, Any]  # choices by group ("recipe"), single values by dotted key ("model.depth")


def chosen(values: dict[str, Any], root: Path) -> Chosen:
    """Choices and values that compose `values` from conf/ alone, without params.yaml or files of --config-dir.

    Choices that the data set's file makes itself are left out.
    """
    files_of = choices(root)
    recorded = values.get("choices") or {"data": values["data"]["name"]}
    recorded = {group: name for group, name in recorded.items() if name in files_of[group]}
    if "data" not in recorded:
        recorded["data"] = "boxes" if values["model"]["family"] in DETECTORS else "folder"
    own = compose_conf(root, {"data": recorded["data"]})
    suits = {**own["choices"], **{group: own[group].get(key) for group, key in SHORT.items()}}
    made = {**recorded, **{group: values[group][key] for group, key in SHORT.items()}}
    picks = {
        group: made[group]
        for group in CHOICES
        if group == "data" or (group not in NOWHERE and made.get(group, suits[group]) != suits[group])
    }
    # Sweeps refer to start.weights, so it is given before they are composed.
    given, theirs = values["start"]["weights"], own.get("start", {}).get("weights", "")
    weights = {WEIGHTS: given} if given != theirs else {}
    files = {group: name for group, name in picks.items() if group in GROUPS}
    short = {f"{group}.{SHORT[group]}": name for group, name in picks.items() if group in SHORT}
    there = dict(leaves(filled(compose_conf(root, files, {**short, **weights}))))
    apart = {key: value for key, value in leaves(values) if _decides(key) and there.get(key) != value}
    return {**picks, **weights, **apart}


def command(values: dict[str, Any], root: Path) -> str:
    """The `dvc exp run` that composes `values`, in this workspace and in a fresh clone."""
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
    """A file name: the data set, then the choices that differ from its defaults. Two experiments never share a name."""
    ranks = RANKS if _ranks_decide(values) else ()
    parts = [
        f"{key}.{_word(value)}"
        for key, value in chosen(values, root).items()
        if key != "data" and (is_named(key) or key in ranks)
    ]
    plain = "-".join([values["data"]["name"], *parts])
    safe = re.sub(r"[^\w.-]+", "_", plain).strip("_")
    if safe == plain and len(safe) <= LONGEST:
        return safe
    return f"{safe[: LONGEST - 9].rstrip('_')}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"


def _ranks_decide(values: dict[str, Any]) -> bool:
    """Whether ranks have statistics or dropout masks of their own (`pipeline.run.key.deciding`), in the net or in the sweep's."""
    nets = json.dumps([values["model"], values["sweep"]])
    return not values["trainer"]["sync_batchnorm"] or any(kind in nets for kind in OTHER_DEPTHS)


def _decides(key: str) -> bool:
    return key != MIRROR and not key.startswith(_dotted(NOWHERE))


def is_named(key: str) -> bool:
    """Whether a key decides a result, so that its value is part of an experiment's name."""
    return key in NAMED or not f"{key}.".startswith(_dotted(UNNAMED))


def _dotted(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}." for name in names)


def _word(value: Any) -> str:
    """A value in Hydra's grammar, quoted only if necessary."""
    if isinstance(value, list):
        return f"[{','.join(map(_word, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_word(item)}' for key, item in value.items())}}}"
    if not isinstance(value, str):
        return json.dumps(value)
    reserved = value.lower() in ("true", "false", "null", "none", "nan", "inf", "auto")
    if re.fullmatch(r"[A-Za-z/][\w./-]*", value) and not reserved:
        return value
    # In Hydra a backslash stands for itself, except before a quote.
    return '"' + re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + ('\\"' if match[2] else ""), value) + '"'
