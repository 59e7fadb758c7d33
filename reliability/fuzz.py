"""Coverage-guided fuzzing of the readers of archives and weights (atheris)."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from reliability import Outcome

PROMISE = "success or a PipelineError, below 5 s and 1 GB"
READERS = ("archives", "weights")
SECONDS = 600  # a reader


def campaign(seed: int, scratch: Path) -> Iterator[Outcome]:
    """One outcome a reader: whether any input ended otherwise than as promised."""
    for reader in READERS:
        yield fuzzed(reader, SECONDS, seed, scratch / reader)


def fuzzed(reader: str, seconds: int, seed: int, folder: Path) -> Outcome:
    """Fuzzes a reader in a process of its own; the row of the table says how many inputs were tried."""
    command = [sys.executable, "-m", "reliability.fuzzed", reader, str(folder), str(seconds), str(seed)]
    ended = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds + 120,
        check=False,
    )
    tried = re.findall(r"stat::number_of_executed_units: (\d+)", ended.stdout)
    name = f"the reader of {reader}, {int(tried[-1]) if tried else 0:,} inputs in {seconds} s"
    return Outcome(
        name, ended.returncode == 0 and bool(tried), _reason(ended.stdout), row=f"Coverage-guided fuzzing of {name}"
    )


def _reason(log: str) -> str:
    """What libFuzzer and Python say about the input that ended it."""
    lines = [line.strip() for line in log.splitlines()]
    errors = [line for line in lines if re.search(r"(Error|Exception|ERROR: libFuzzer)\b.*:|ModuleNotFound", line)]
    return " ".join([*errors[:2], *(line for line in lines if "Test unit written" in line)])[:600] or " ".join(
        lines[-1:]
    )
