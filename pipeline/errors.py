"""Errors that a user can mend. The command line prints them as one sentence; any other error is a defect of this project."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline.credentials import redacted

folders: dict[str, str] = {}  # of the command that this process runs, by what names another: paths.runs, PIPELINE_RUNS
_running: list[Sequence[str]] = []  # the words of that command


class PipelineError(ValueError):
    """One sentence for the user: what was given, what is allowed, what to do. Credentials in it are hidden."""

    def __init__(self, sentence: str = "") -> None:
        super().__init__(redacted(sentence))


class MissingError(PipelineError, FileNotFoundError):
    """A file or a run that an earlier command makes is not there; the sentence names the command."""


class DamagedError(PipelineError):
    """A file that this project wrote is no longer as it was written; the sentence names it and the remedy."""


def printable(text: object, most: int = 200) -> str:
    """Text from outside (a file's name, a server's answer) as a message may show it: on one line, for any terminal.

    What does not print (controls, line breaks, lone surrogates, bidirectional overrides) is escaped as in `repr`; a text
    longer than `most` characters loses its middle.
    """
    text = str(text)
    ends = text if len(text) <= 2 * most else text[:most] + text[-most:]
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in ends)
    return line if len(line) <= most else f"{line[: most - most // 3 - 1]}…{line[-(most // 3) :]}"


def first_line(error: BaseException) -> str:
    """The first line of what a library says in an error, or the error's kind if it says nothing, as `printable` shows it.

    Credentials in it are hidden.
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return printable(redacted(line[:1000]))  # a foreign file can make the line so long that `redacted` takes minutes


@contextmanager
def running(words: Sequence[str]) -> Iterator[None]:
    """While a command runs, tells `hint` what the user chose: --config with its file, or overrides."""
    _running.append(words)
    try:
        yield
    finally:
        _running.pop()


def hint(verb: str) -> str:
    """The command that runs `verb` (`sweep`, or `sweep retry`) with what the user chose, in backquotes, for a sentence that advises it.

    Ranks and trials that another process started do not know it; there the words are "with the same overrides".
    """
    if not _running:
        return f"`pipeline {verb}` with the same overrides"
    return f"`{shlex.join(['pipeline', *verb.split(), *_running[-1]])}`"
