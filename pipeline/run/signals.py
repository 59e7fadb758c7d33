"""The signals by which a terminal, a user or a machine that goes ends a process."""

from __future__ import annotations

import signal
import threading
from typing import Any


def on_termination(handler: Any) -> None:
    """Handles what ends a process from outside: SIGTERM, and SIGHUP of a terminal or a machine that goes, if nohup is not used."""
    signal.signal(signal.SIGTERM, handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handler)


def ignore_termination() -> None:
    """For the rest of the process: after a stop, further signals must not cut its last work short."""
    if threading.current_thread() is threading.main_thread():
        on_termination(signal.SIG_IGN)
