"""The first lines of a command, in which a Ctrl-C ends it at once: Python would print a traceback of some import."""

from __future__ import annotations

import signal


def main() -> int:
    """`pipeline.cli.main`, imported."""
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where the caller ignores the signal
    if raises:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pipeline import cli

    if raises:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli.main()
