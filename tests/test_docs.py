"""The pages of docs/: each is in the site, the site builds without a warning, and the errors that they explain are those of the code."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from imports import ROOT

from pipeline.stages.keys import page as made_page

_spec = importlib.util.spec_from_file_location("site_pages", ROOT / ".ci" / "site.py")
assert _spec and _spec.loader
site_pages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(site_pages)

PAGES = sorted((ROOT / "docs").glob("*.md"))
WIDTH = 130
MADE = re.compile(r"<!-- made by.*?<!-- end", re.DOTALL)  # by commands, which break no lines
EXPLAINED = r"^- ((?:`[^`]+`(?:,\s+)?)+)"  # one or more messages at the start of an item
MESSAGES = [
    " ".join(message.split())
    for item in re.findall(EXPLAINED, (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    for message in re.findall(r"`([^`]+)`", item)
]


def leaves(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from leaves(inner)


def test_every_page_is_in_the_navigation() -> None:
    named = list(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    pages = {path.name for path in PAGES} | {"index.md"}
    pages |= {f"repository/{name}" for name in site_pages.beside() if name.endswith(".md")}
    assert sorted(named) == sorted(pages)


def test_the_site_builds_without_a_warning_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("index.html", "troubleshooting.html", "repository/results/index.html", "images/pipeline.svg"):
        assert (tmp_path / "site" / name).is_file()
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"?(?:https?:)?//", page.read_text()), page


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_lines_fit_a_screen(page: Path) -> None:
    text = MADE.sub("", page.read_text()).replace(made_page(), "")
    assert not [line for line in text.splitlines() if len(line) > WIDTH and not line.startswith(("|", "![", "    "))]


def strings() -> list[str]:
    """The texts of the code and of the Makefile, each value in them as …"""
    texts = [(ROOT / "Makefile").read_text()]
    for path in (ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"\{\w*\}|%[sd]", "…", node.value))
    return texts


STRINGS = strings()


@pytest.mark.parametrize("message", MESSAGES)
def test_an_error_that_is_explained_is_one_of_the_code(message: str) -> None:
    parts = [part for part in message.split("…") if part.strip(" ;:,().")]
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    assert any(pattern.search(text) for text in STRINGS)


def test_errors_to_explain_were_found() -> None:
    assert len(MESSAGES) > 60


@pytest.mark.slow
def test_the_programs_of_the_api_page_run(workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace())
    train, show = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/api.md").read_text(), re.M | re.S)
    exec(train, {})
    assert re.search(r"^ResNet-8 0\.\d+ 0\.\d+$", capsys.readouterr().out, re.M)
    exec(show.replace("mlruns", str(Path.cwd() / "mlruns")), {})  # none was tracked
