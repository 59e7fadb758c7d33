"""Text is UTF-8, whatever encoding the locale has."""

from __future__ import annotations

import ast
import io
import sys

import pytest
from imports import ROOT

from pipeline import cli


def _in_the_locales_encoding(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    modes = {str(argument.value) for argument in call.args if isinstance(argument, ast.Constant)}
    text = name in ("read_text", "write_text") or (name == "open" and bool(modes & {"r", "w", "a", "x"}))
    return text and all(keyword.arg != "encoding" for keyword in call.keywords)


def test_every_file_of_text_is_read_and_written_as_utf_8() -> None:
    """Of this kind, ruff's PLW1514 finds a third, where it knows the variable's type."""
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        assert not [f"{path}:{call.lineno}" for call in calls if _in_the_locales_encoding(call)]


def test_what_the_locale_cannot_print_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding="latin-1"))
    monkeypatch.setattr(cli, "_help", lambda *_: "8×8: 1–2 %")
    assert cli.main(["--help"]) == 0
    assert terminal.getvalue() == b"8\xd78: 1\\u20132 %\n"
