"""The base of the configuration's sections: which values a key of each kind takes, and how others are refused.

The kinds are types with their range. A section checks them whenever it is made, by pydantic or by code, so that this
package imports without pydantic.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from pipeline.errors import PipelineError, printable

_NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Range:
    """The numbers from `least` to `most`; NaN and infinity are in no range."""

    least: float
    most: float
    above: bool = False  # without `least` itself
    below: bool = False  # without `most` itself

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not (-math.inf < value < math.inf):
            return False
        low = value > self.least if self.above else value >= self.least
        return low and (value < self.most if self.below else value <= self.most)

    def __str__(self) -> str:
        ends = f"{_plain(self.least)} {'and below' if self.below else 'and at most'} {_plain(self.most)}"
        return f"it must be {'above' if self.above else 'at least'} {ends}"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Pydantic's schema of the number, after `number`."""
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(number, handler(source))


def number(value: Any) -> Any:
    """The number that a text stands for: YAML 1.1 reads 1e-3 as a text. Anything else stays as it is.

    Raises:
        PydanticCustomError: true or false, which pydantic would take for 1 or 0.
    """
    if isinstance(value, bool):
        from pydantic_core import PydanticCustomError

        raise PydanticCustomError("number", "a number is needed")
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value) if re.search("[.eE]", value) else value
    return value


# The kinds of numbers. Upper ends lie beyond any use and within what the libraries below can hold.
Seed = Annotated[int, Range(0, 2**32 - 1)]  # NumPy's and scikit-learn's range
Count = Annotated[int, Range(0, 2**31 - 1)]
Positive = Annotated[int, Range(1, 2**31 - 1)]
Few = Annotated[int, Range(1, 4096)]  # ranks, nodes
Threads = Annotated[int, Range(0, 4096)]
Pixels = Annotated[int, Range(1, 65500)]  # a JPEG's longest side
NoPixels = Annotated[int, Range(0, 65500)]  # 0 for a side that is not used
Rate = Annotated[float, Range(1e-12, 1e6)]  # learning rates, whose quotients float32 holds too
NoRate = Annotated[float, Range(0, 1e6)]
Alpha = Annotated[float, Range(0, 100)]  # of a Beta distribution; 0 for none
Seconds = Annotated[float, Range(1, 1e6)]
Amount = Annotated[float, Range(0, 1e12, above=True)]
NoAmount = Annotated[float, Range(0, 1e12)]
Share = Annotated[float, Range(0, 1)]
PartialShare = Annotated[float, Range(0, 1, below=True)]


class Section:
    """A part of the configuration; pydantic, which checks types, refuses keys that are no fields."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (pydantic's own name and form)
    section: ClassVar[str] = ""  # its dotted key

    def __post_init__(self) -> None:
        own = f"{self.section}." if self.section else ""
        refusals = [
            f"{own}{key}={shown(value)}; {refusal}"
            for key, kind in kinds(type(self)).items()
            for value in [getattr(self, key)]
            if (refusal := refused(kind, value))
        ]
        if refusals:
            raise PipelineError("\n".join(refusals))
        self.check()

    def check(self) -> None:
        """Rules between the section's keys; called when each key by itself is in its range."""


def kinds(section: Any) -> dict[str, Any]:
    """Fields of a section, a class, with their types, ranges included."""
    return _kinds(section)


def defaults(section: type) -> dict[str, Any]:
    """Defaults of a section's keys that depend on no other key, nested like the section."""
    values: dict[str, Any] = {}
    types = get_type_hints(section)
    for entry in fields(section):
        if is_dataclass(types[entry.name]):
            values[entry.name] = defaults(types[entry.name])
        elif entry.default is not MISSING:
            values[entry.name] = entry.default
        elif entry.default_factory is not MISSING:
            values[entry.name] = entry.default_factory()
    return values


@cache
def _kinds(section: type) -> dict[str, Any]:
    hints = get_type_hints(section, include_extras=True)
    return {entry.name: hints[entry.name] for entry in fields(section)}


def refused(kind: Any, value: Any) -> str:
    """What is allowed, if `value` is none of the values of a kind; "" otherwise. Types are not checked but of numbers."""
    for text in _texts(value):
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            return "a text must be UTF-8 without NUL; rename the file that it names, or type it anew"
    if get_origin(kind) is Literal and value not in get_args(kind):
        return f"choose one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is list:
        return next((refusal for item in value if (refusal := refused(get_args(kind)[0], item))), "")
    return next((str(limit) for limit in getattr(kind, "__metadata__", ()) if value not in limit), "")


def require(holds: bool, sentence: str) -> None:
    """Raises PipelineError with `sentence`, which the user reads, unless the condition holds."""
    if not holds:
        raise PipelineError(sentence)


def require_targets(key: str, entries: list[dict[str, Any]], example: str) -> None:
    """Raises PipelineError unless each entry names what is to be made of it, as Hydra's users write it."""
    for number, entry in enumerate(entries):
        target = entry.get("_target_")
        require(
            isinstance(target, str) and re.fullmatch(r"\w+(\.\w+)+", target) is not None,
            f"{key}={shown(entries)}; entry {number} must name a class, with its arguments beside it (override: {key}=[{{_target_: {example}}}])",
        )


def shown(value: Any) -> str:
    """A value as a sentence shows it: as Python writes it, on one line, shortened."""
    try:
        return printable(repr(value))
    except (ValueError, RecursionError):  # Python writes no integer of more than 4,300 digits
        return f"a {type(value).__name__} too large to print"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _texts(item)


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e6 else f"{value:g}"
