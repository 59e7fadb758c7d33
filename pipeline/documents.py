"""YAML that people and other programs write: read within bounds, and refused in one sentence that names the file.

What this project writes itself begins with a checksum of the rest, so that a damaged or edited file is noticed.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import MissingError, PipelineError, printable

MOST_BYTES = 256 << 10  # of a file; YAML in Python takes a second for so many
MOST_VALUES = 100_000  # with every alias counted where it stands: nine lines of aliases can stand for 10^9 values
KEY = re.compile("[0-9a-f]{12}|[0-9a-f]{32}")  # a run's key, or its id in MLflow: a text, even of digits alone
CHECKSUM = "# sha256 of the lines below: "


def read_mapping(path: Path, remedy: str = "") -> dict[str, Any]:
    """Keys and values of a YAML file; none for an empty one.

    Args:
        remedy: what to do about a file that cannot be read; by default, to restore it from git.
    Raises:
        MissingError: no such file.
        PipelineError: no file, too large a file, no YAML, no mapping, or not what the checksum in its first line says.
    """
    remedy = remedy or f"correct it, or restore it: git restore {shlex.quote(str(path))}"
    return parse_mapping(_text(path, remedy), path, remedy)


def parse_mapping(text: str, path: Path, remedy: str) -> dict[str, Any]:
    """As `read_mapping`, for the text of a file."""
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None and _count(node, {}) > MOST_VALUES:
            raise PipelineError(f"{path} stands for more than {MOST_VALUES:,} values by its aliases; {remedy}")
        values = None if node is None else loader.construct_document(_with_keys(node))
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError, AttributeError) as error:
        if isinstance(error, PipelineError):
            raise
        raise PipelineError(f"{path} is no YAML: {first_lines(error)}; {remedy}") from None
    if not isinstance(values or {}, dict):
        raise PipelineError(f"{path} holds a {type(values).__name__} instead of keys and values; {remedy}")
    return values or {}


def check_files(folder: Path) -> None:
    """Reads every YAML file below `folder`, since Hydra, which reads them too, knows no bounds.

    Raises:
        PipelineError: as `read_mapping`.
    """
    for path in sorted(folder.rglob("*.yaml")):
        stat = path.stat()
        _check(path, stat.st_mtime_ns, stat.st_size)


@cache
def _check(path: Path, changed_ns: int, size: int) -> None:
    """The other arguments tell a changed file from the one that was read before."""
    read_mapping(path)


def with_checksum(text: str) -> str:
    """`text` behind a line with its checksum."""
    return f"{CHECKSUM}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def first_lines(error: Exception) -> str:
    """The first two lines of an error that a library explains over several."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    lines = [printable(line.strip()) for line in str(error).splitlines() if line.strip()]
    if not lines and isinstance(error.__cause__, Exception):
        return first_lines(error.__cause__)
    return " ".join(lines[:2]) or type(error).__name__


def _text(path: Path, remedy: str) -> str:
    if not path.exists():
        raise MissingError(f"{path} is missing; {remedy}")
    if not path.is_file():
        raise PipelineError(f"{path} is no file; {remedy}")
    with path.open("rb") as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise PipelineError(f"{path} is larger than {MOST_BYTES >> 10} KiB, so it is no configuration; {remedy}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); {remedy}") from None
    if text.startswith(CHECKSUM[:10]) and text != with_checksum(text.partition("\n")[2]):
        raise PipelineError(
            f"{path} has changed since it was written; {remedy}, or delete its first line to keep an edit of yours"
        )
    return text


def _with_keys(node: Any) -> Any:
    """`node`, in which 123456789012 and 012345670123 are no numbers, as YAML has them, but keys of runs."""
    parts, seen = [node], set()
    while parts:
        part = parts.pop()
        if id(part) in seen:  # an alias
            continue
        seen.add(id(part))
        if isinstance(part.value, list):
            parts += [inner for pair in part.value for inner in (pair if isinstance(pair, tuple) else (pair,))]
        elif part.style is None and KEY.fullmatch(part.value):
            part.tag = "tag:yaml.org,2002:str"
    return node


def _count(node: Any, counts: dict[int, int]) -> int:
    """How many values a node stands for. A node that holds itself is endless."""
    if id(node) not in counts:
        counts[id(node)] = MOST_VALUES + 1  # until it is counted
        parts = node.value if isinstance(node.value, list) else []
        inner = [part for pair in parts for part in (pair if isinstance(pair, tuple) else (pair,))]
        counts[id(node)] = min(1 + sum(_count(part, counts) for part in inner), MOST_VALUES + 1)
    return counts[id(node)]
