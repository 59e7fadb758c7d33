"""The driver's watch over the cluster's head, without which Ray ends the process from C++ with a line of its log."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

from pipeline.errors import printable

LOOK_S = 2.0  # between looks, and for an answer
GIVES_UP = "RAY_gcs_rpc_server_reconnect_timeout_s"
EARLIER_S = 5.0  # than Ray gives up


def watch_head(address: str) -> None:
    """Ends this process with one sentence and exit status 75 once nothing has listened at the address for nearly a minute.

    What it has made is on disk already. Ray gives a head that is restarted over its old state (GCS fault tolerance) the
    same time, RAY_gcs_rpc_server_reconnect_timeout_s.

    Args:
        address: host:port of Ray's global control service.
    """
    host, _, port = address.rpartition(":")
    patience_s = float(os.environ.get(GIVES_UP, "60")) - EARLIER_S
    at = host.strip("[]"), int(port)  # of IPv6, Ray gives the address in brackets
    watch = threading.Thread(target=_watch, args=(at, patience_s), daemon=True, name="watch-of-ray-head")
    watch.start()


def _watch(address: tuple[str, int], patience_s: float) -> None:
    answered = time.monotonic()
    while time.monotonic() - answered < patience_s:
        time.sleep(LOOK_S)
        try:
            socket.create_connection(address, timeout=LOOK_S).close()
        except OSError:
            continue
        answered = time.monotonic()
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h\n")  # the cursor, which a progress bar hides
    print(
        f"the head of the Ray cluster, {printable(address[0])}:{address[1]}, has not answered for "
        f"{patience_s:.0f} s; start it again (`ray start --head`, and `ray start` on the workers): the same command resumes",
        file=sys.stderr,
        flush=True,
    )
    os._exit(os.EX_TEMPFAIL)  # a call into Ray waits for the head, so no exception would reach it
