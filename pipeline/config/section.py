"""What the sections of the configuration have in common."""

from __future__ import annotations


class Section:
    """A part of the configuration; pydantic, which checks it, refuses keys that are no fields."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (pydantic's own name and form)


def require(holds: bool, sentence: str) -> None:
    """Raises ValueError with the sentence that the user is told."""
    if not holds:
        raise ValueError(sentence)
