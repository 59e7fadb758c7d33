"""Every key of the configuration with its type, range, default and meaning, read from the sections' own source.

A key's meaning is the comment behind its field, or the comment lines above it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pipeline.config.root import Config
from pipeline.config.section import Range, kinds

_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", type(None): "null"}


@dataclass(frozen=True)
class Key:
    name: str  # dotted
    kind: str  # its values, in words
    default: str  # as YAML writes it; "" where the data set or another key decides
    meaning: str
    choices: tuple[str, ...] = ()  # all of its values, where they are few


@dataclass(frozen=True)
class Part:
    """A section of the configuration."""

    name: str  # dotted; "" for the top
    about: str
    keys: list[Key]


def parts(section: type = Config, name: str = "") -> Iterator[Part]:
    """The section, then those inside it, in the order of the configuration; those that may be null are keys, too."""
    hints, comments = kinds(section), _comments(section)
    own = [
        Key(
            f"{name}{entry.name}",
            _kind(hints[entry.name]),
            _default(entry),
            comments.get(entry.name, ""),
            _choices(hints[entry.name]),
        )
        for entry in fields(section)
        if not is_dataclass(hints[entry.name]) and entry.name != "choices"  # which records how it was composed
    ]
    yield Part(name.rstrip("."), inspect.getdoc(section) or "", own)
    for entry in fields(section):
        for kind in (hints[entry.name], *get_args(hints[entry.name])):
            if isinstance(kind, type) and is_dataclass(kind):
                yield from parts(kind, f"{name}{entry.name}.")


def similar(key: str) -> str:
    """The other key or section most like `key`, "" if none is alike."""
    names = [part.name for part in parts() if part.name] + [key.name for part in parts() for key in part.keys]
    return next(iter(get_close_matches(key, [name for name in names if name != key], 1, 0.7)), "")


def _kind(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        (limit,) = (limit for limit in inner[1:] if isinstance(limit, Range))
        return f"{_kind(inner[0])}, {_span(limit)}"
    if origin is Literal:
        return _or([str(value) for value in inner])
    if origin in (Union, types.UnionType):
        return _or([_kind(each) for each in inner])
    if origin is list:
        return f"list: {_kind(inner[0])}"
    return _WORDS.get(kind, "keys and values")


def _choices(kind: Any) -> tuple[str, ...]:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is bool:
        return "true", "false"
    if origin is Literal:
        return tuple(map(str, inner))
    if origin in (Union, types.UnionType):
        each = [_choices(part) for part in inner]
        return tuple(value for values in each for value in values) if all(each) else ()
    return ()


def _span(limit: Range) -> str:
    """The range in words; an upper end beyond any use is left out."""
    least = f"above {limit.least:g}" if limit.above else f"{limit.least:g}"
    if limit.most >= 2**31 - 1:
        return least if limit.above else f"{least} or more"
    return f"{least} to {'below ' if limit.below else ''}{limit.most:,.10g}"


def _or(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _default(entry: Field[Any]) -> str:
    value = entry.default
    if value is MISSING and entry.default_factory is MISSING:
        return ""
    if entry.default_factory is not MISSING:
        value = entry.default_factory()
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return "''" if value == "" else str(value)


@cache
def _comments(section: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(section))
    lines = source.splitlines()
    comments = {}
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            _, mark, behind = lines[(node.end_lineno or node.lineno) - 1][node.end_col_offset or 0 :].partition("#")
            comments[node.target.id] = behind.strip() if mark else _above(lines[: node.lineno - 1])
    return comments


def _above(lines: list[str]) -> str:
    """The comment that the lines end in."""
    comment: list[str] = []
    while lines and lines[-1].lstrip().startswith("#"):
        comment.insert(0, lines.pop().lstrip(" #"))
    return " ".join(comment)
