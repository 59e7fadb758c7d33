"""The first lines of a command, in which a Ctrl-C ends it at once: Python would print a traceback of some import."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """`pipeline.cli.main`, imported."""
    if sys.platform != "linux":  # elsewhere it fails at some import or call of the system
        print("pipeline: Linux is needed; on Windows use WSL2, on macOS docker compose", file=sys.stderr)
        return 2
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where the caller ignores the signal
    if raises:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pipeline import cli

    if raises:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli.main()
