"""An S3-compatible store on the switch, which can err or be slow for a while."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hosts import SWITCH_ADDRESS

from benchmarks.servers import free_port, s3_environment, s3_server

BUCKET = "pipeline"
SLOW_S = 2.0  # before each part of a request, while the store is slow
REFUSAL = b"HTTP/1.1 %d Away\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Store:
    """A door before a real server.

    Attributes:
        mode: "" lets all pass, "errs" answers 503 and 500 in turn, "slow" waits for SLOW_S.
        errors: how many requests it refused.
    """

    def __init__(self, server: int) -> None:
        self.mode, self.errors, self._server = "", 0, server
        self._door = socket.create_server(("0.0.0.0", 0))
        port = self._door.getsockname()[1]
        self.environment = s3_environment(f"http://{SWITCH_ADDRESS}:{port}")
        self.here = s3_environment(f"http://127.0.0.1:{port}")
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._door.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._door.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=_copy, args=(server, client), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, suppress(OSError):
            while data := client.recv(1 << 16):
                if self.mode == "slow":
                    time.sleep(SLOW_S)
                if self.mode == "errs":
                    self.errors += 1
                    client.sendall(REFUSAL % (500 + 3 * (self.errors % 2)))
                    return
                server.sendall(data)


def _copy(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while data := server.recv(1 << 16):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)


@contextmanager
def s3_store(folder: Path) -> Iterator[Store]:
    port = free_port()
    with s3_server("127.0.0.1", port, BUCKET, folder):
        store = Store(port)
        try:
            yield store
        finally:
            store.close()
