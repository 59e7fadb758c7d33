from __future__ import annotations

import pytest

from pipeline.errors import first_line, printable


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("train/犬/Müller $x_1$ 🐶.png", "train/犬/Müller $x_1$ 🐶.png"),
        ("a\x1b[31mb\r\nc\0", r"a\x1b[31mb\r\nc\x00"),
        ("\udce9t\udce9", r"\udce9t\udce9"),
        ("gpj.\u202eexe\u2028", r"gpj.\u202eexe\u2028"),
    ],
)
def test_what_does_not_print_is_escaped_and_all_else_stays(text, line):
    assert printable(text) == line
    line.encode()


def test_a_long_text_keeps_its_ends():
    line = printable("a" * 10_000_000 + "\x07" * 300 + "/z.png", 60)
    assert len(line) == 60 and line.startswith("aaa") and line.endswith("/z.png") and "…" in line


def test_the_first_line_of_an_error_is_one_line_without_credentials():
    error = ValueError("\nno answer from http://me:word@host\x1b[0m\nat line 7")
    assert first_line(error) == r"no answer from http://***@host\x1b[0m"
    assert first_line(ValueError()) == "ValueError" and len(first_line(ValueError("x" * 5000))) == 200
