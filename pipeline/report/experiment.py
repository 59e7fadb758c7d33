"""An experiment named by what was chosen: the command that makes it again, and the name of its published result."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path
from typing import Any

from pipeline.compose import AUTO, CHOICES, choices, compose_conf, leaves, literal, read_mapping

WEIGHTS = "start.weights"
NOWHERE = ("paths", "tracking")  # where files lie and runs are tracked decides no result
MIRROR = "data.mirror"  # nor does where an archive was found
# Nor do these, though a command has them; of the trainer's keys only sync_batchnorm does.
UNNAMED = ("trainer", "data.path", "data.workers", "sweep.address")
LONGEST = 100  # characters of a name

Chosen = dict[str, Any]  # a choice by its group ("recipe"), a single value by its dotted key ("model.depth")


def chosen(values: dict[str, Any], root: Path) -> Chosen:
    """What makes the composed configuration `values` from conf/ alone, whatever params.yaml holds.

    A choice that the data set makes itself is left out; of files that come equally near, the first.
    """
    options = choices(root)
    found: Chosen = {"data": values["data"]["name"]}  # compose sees to it that a data set has its file's name
    left = _apart(values, found, root)
    for group in CHOICES:
        if group not in ("data", *NOWHERE) and any(key.startswith(f"{group}.") for key in left):
            more, fewer = _nearest(values, found, group, options[group], root)
            if len(fewer) < len(left):  # a file that replaces one value is no longer, and its name says more
                found, left = more, fewer
    return {**found, **left}


def command(values: dict[str, Any], root: Path) -> str:
    """`dvc exp run` that makes the composed configuration `values`, in this workspace and in a fresh clone."""
    found, params = chosen(values, root), read_mapping(root / "params.yaml")
    here = {key: AUTO for key, value in params.items() if key in CHOICES and key not in NOWHERE and value != AUTO}
    composed = dict(leaves(values))
    here |= {key: composed[key] for key, _ in leaves(params.get("set") or {}) if key in composed and _decides(key)}
    words = [
        f"-S {shlex.quote(f'{key}={value}' if key in CHOICES else f'++set.{key}={_word(value)}')}"
        for key, value in {"data": found["data"], **here, **found}.items()
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


def _nearest(values: dict[str, Any], picked: Chosen, group: str, names: list[str], root: Path) -> tuple[Chosen, Chosen]:
    """`picked` with the file of the group that leaves the fewest single values apart, and those values."""
    tried = [({**picked, group: name}, _apart(values, {**picked, group: name}, root)) for name in names]
    return min(tried, key=lambda pair: len(pair[1]))


def _apart(values: dict[str, Any], picked: Chosen, root: Path) -> Chosen:
    """Single values in which `values` differs from what the picked files compose to.

    The weights to start from are none of a file's, and files refer to them: sweep=transfer is still that file with them.
    """
    weights = {key: value for key, value in leaves(values) if key == WEIGHTS and value}
    words = [f"{key}={_word(value)}" for key, value in (*picked.items(), *weights.items())]
    there = dict(leaves(compose_conf(root, words)))
    apart = {key: value for key, value in leaves(values) if _decides(key) and there.get(key) != value}
    return {**weights, **apart}


def _decides(key: str) -> bool:
    return key != MIRROR and not key.startswith(_dotted(NOWHERE))


def _named(key: str) -> bool:
    return key == "trainer.sync_batchnorm" or not f"{key}.".startswith(_dotted(UNNAMED))


def _dotted(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}." for name in names)


def _word(value: Any) -> str:
    """A value in Hydra's grammar, without quotes where it needs none."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z/][\w./-]*", value)
    reserved = plain and str(value).lower() in ("true", "false", "null", "none", "nan", "inf", "auto")
    return str(value) if plain and not reserved else str(literal(value))
