"""What `make bench` measures: a module a section, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from benchmarks.bench import Section

# Section -> module below benchmarks; each has `section(bench) -> list[Measured]`.
SECTIONS = {
    "training": "training",
    "loop": "loop",
    "evaluation": "evaluation",
    "startup": "startup",
    "ranks": "ranks",
    "sweep": "sweep",
    "growth": "growth",
    "images": "images",
}


def section(name: str) -> Section:
    return import_module(f"benchmarks.{SECTIONS[name]}").section
