"""A served model, in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from processes import free_port, until

from pipeline.config import ServeConfig
from pipeline.ensemble.server import Served, server


@contextmanager
def running(model: Served, name: str, **limits: int) -> Iterator[int]:
    """The port of a server with these keys of `serve`."""
    port = free_port()
    web = server(model, name, ServeConfig(port=port, **limits))
    thread = threading.Thread(target=web.run)
    thread.start()
    try:
        until(lambda: web.started, "the server")
        yield port
    finally:
        web.should_exit = True
        thread.join()
