"""keys: what each key of the configuration means and takes, on the terminal and as the page docs/keys.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from pipeline.compose.choices import GROUPS
from pipeline.config.reference import Key, Part, parts, similar
from pipeline.errors import PipelineError, printable

WIDTH = 160  # characters, where there is no terminal
HEAD = """# Keys of the configuration

Made from the sections' source by `python -m pipeline.stages.keys > docs/keys.md`; `pipeline keys recipe` prints one of them. A value
is given on the command line (`recipe.lr=0.05`), in params.yaml, or in a [file of conf/](#files-of-conf), whose values win over the
defaults below. A key without a default is required, or the data set or another key decides it. `pipeline train --cfg job` prints
the resolved configuration.
"""
FILES = """## Files of conf/

`recipe=cifar_fast` takes the values of conf/recipe/cifar_fast.yaml. A file of `data` also names a recipe and a sweep.
"""
CONF = Path(__file__).resolve().parents[2] / "conf"


def show(names: Sequence[str]) -> None:
    """Prints the keys whose names begin with one of `names`, a key or section; all without any.

    Raises:
        PipelineError: there is no such key or section.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    everything = list(parts())
    for name in names:
        _require(name, everything)
    table = Table("key", "values", "default", "meaning")
    for part in everything:
        for key in part.keys:
            if not names or any(_is_below(key.name, name) for name in names):
                table.add_row(*(escape(text) for text in (key.name, key.kind, key.default, key.meaning)))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def page() -> str:
    """docs/keys.md."""
    sections = [HEAD]
    for part in parts():
        lines = [
            f"## {part.name or 'At the top'}",
            "",
            part.about,
            "",
            "| key | values | default | meaning |",
            "| --- | --- | --- | --- |",
        ]
        lines += [f"| `{key.name}` | {_cell(key.kind)} | {_code(key)} | {_cell(key.meaning)} |" for key in part.keys]
        sections.append("\n".join(lines) + "\n")
    rows = [f"| `{path.parent.name}={path.stem}` | {_cell(about)} |" for path, about in presets()]
    sections.append("\n".join([FILES, "| choice | for |", "| --- | --- |", *rows]) + "\n")
    return "\n".join(sections)


def presets() -> Iterator[tuple[Path, str]]:
    """Each file of conf/ that a group chooses, and the comment at its beginning."""
    for group in GROUPS:
        for path in sorted((CONF / group).glob("*.yaml")):
            lines = (
                line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package")
            )
            yield (
                path,
                " ".join(line.removeprefix("#").strip() for line in takewhile(lambda line: line[:1] == "#", lines)),
            )


def _is_below(key: str, name: str) -> bool:
    return f"{key}.".startswith(f"{name}.")


def _require(name: str, everything: Sequence[Part]) -> None:
    if not any(_is_below(key.name, name) for part in everything for key in part.keys):
        sections = ", ".join(part.name for part in everything if part.name and "." not in part.name)
        like = similar(name)
        raise PipelineError(
            f"{printable(name)} is no key or section of the configuration{f' (did you mean {like}?)' if like else ''}; name one of "
            f"{sections}, a key, or nothing for all"
        )


def _code(key: Key) -> str:
    return f"`{key.default}`" if key.default else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(page(), end="")
