"""`pipeline` commands and functions in forked children, which need no new imports: to be limited, timed and killed."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

TIMED_OUT = "timed out"


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        code: exit status; minus the signal's number where a signal ended it.
        output: stdout and stderr.
        timed_out: it was killed after its time; `code` is then -SIGKILL.
    """

    code: int
    output: str
    seconds: float
    timed_out: bool = False

    @property
    def last_line(self) -> str:
        return (self.output.rstrip().splitlines() or [""])[-1]

    def refused(self, codes: Iterable[int] = (2,)) -> bool:
        """Whether the command ended with one of the statuses, and with one sentence instead of a traceback."""
        return self.code in codes and "Traceback" not in self.output and self.last_line.startswith("pipeline")

    def summary(self) -> str:
        """One line for a table of failures."""
        return f"{TIMED_OUT if self.timed_out else f'exit {self.code}'}: {self.last_line[:200]}"


def pipeline(*arguments: str, cwd: Path, **limits: object) -> Ended:
    """`pipeline ARGUMENTS` in `cwd`; `limits` as for `call`. The caller imports what the verb needs beforehand."""

    def command() -> int:
        from pipeline.cli import main

        sys.argv = ["pipeline", *arguments]
        return main()

    return call(command, cwd=cwd, **limits)  # type: ignore[arg-type]


def call(
    function: Callable[[], int | None],
    *,
    cwd: Path,
    timeout_s: float = 60.0,
    memory: int = 0,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Runs `function` in a forked child that leads a session.

    Args:
        memory: bytes that it may allocate beside what the parent has mapped; 0 for no limit.
        environment: added to the parent's.
    """
    start = time.monotonic()
    with TemporaryFile() as output:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            _become(function, output.fileno(), cwd, memory, environment or {})
        code = _wait(pid, start + timeout_s)
        timed_out = code is None
        if timed_out:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            code = _wait(pid, float("inf"))
        assert code is not None
        output.seek(0)
        text = output.read().decode(errors="replace")
    return Ended(code, text, time.monotonic() - start, timed_out)


def _become(function: Callable[[], int | None], output: int, cwd: Path, memory: int, more: Mapping[str, str]) -> None:
    """The child's whole life."""
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (
            os.fdopen(number, "w", closefd=False) for number in (1, 2)
        )  # the parent may capture its own
        os.chdir(cwd)
        os.environ.update(more)
        if memory:
            limit = mapped_bytes() + memory
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        code = function() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait(pid: int, until: float) -> int | None:
    """The child's exit code, or None where it still runs at the monotonic time `until`."""
    pause = 0.001
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def mapped_bytes() -> int:
    """Address space of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    return pages * resource.getpagesize()
