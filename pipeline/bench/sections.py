"""What `make bench` measures: a module a section, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from pipeline.bench.bench import Section

# Section -> module below pipeline.bench; each has `section(bench) -> list[Measured]`.
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
    return import_module(f"pipeline.bench.{SECTIONS[name]}").section
