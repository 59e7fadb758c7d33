"""The base of the configuration's sections, and how they refuse values."""

from __future__ import annotations

from pipeline.errors import PipelineError


class Section:
    """A part of the configuration; pydantic, which checks it, refuses keys that are no fields."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (pydantic's own name and form)


def require(holds: bool, sentence: str) -> None:
    """Raises PipelineError with `sentence`, which the user reads, unless the condition holds."""
    if not holds:
        raise PipelineError(sentence)


def require_at_least(name: str, section: Section, **bounds: int) -> None:
    """Raises PipelineError unless each key of `section`, called `name`, has at least the value given for it here."""
    for key, least in bounds.items():
        value = getattr(section, key)
        require(value >= least, f"{name}.{key}={value}; it must be at least {least}")
