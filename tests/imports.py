"""What a module of this package imports and reads, from its source: the ground for tests of dependencies."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, functions included: `a.b` and `a.b.c` for `from a.b import c`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def attributes(path: Path) -> set[tuple[str, str]]:
    """Owner and name of each attribute in a file: ("recipe", "lr") for recipe.lr, self._recipe.lr, config.recipe.lr.

    The recipe in a net's record (`net.recipe.lr`) is left out, since it is no key of the configuration.
    """
    result = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            inner = node.value.value if isinstance(node.value, ast.Attribute) else None
            if isinstance(inner, ast.Name) and inner.id in ("net", "record", "member"):
                continue
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            result.add((owner.lstrip("_"), node.attr))
    return result


def file_of(name: str) -> Path | None:
    """The source file of one of our modules or packages, or None."""
    path = ROOT / name.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if name.split(".")[0] == "pipeline" and candidate.is_file():
            return candidate
    return None


def closure(start: Path) -> set[Path]:
    """`start` and every file of ours that it needs, through others and through the packages' __init__ files."""
    done: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        needed = {file_of(name) for name in imported(path)}
        folder = path.parent
        while folder != ROOT:
            needed.add(folder / "__init__.py" if (folder / "__init__.py").is_file() else None)
            folder = folder.parent
        waiting += [p for p in needed if p is not None]
    return done
