"""A web server on this machine that answers byte by byte what a script says."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Thread
from typing import NamedTuple, Self


class Request(NamedTuple):
    number: int  # from 0
    path: str
    headers: dict[str, str]  # names in small letters

    @property
    def start(self) -> int:
        """The first byte that it asks for."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


class Reset(NamedTuple):
    """In a script: the connection is reset, not closed."""


Script = Callable[[Request], Iterator[bytes | float | Reset]]  # bytes to send, seconds to wait


class Server:
    """Runs `script` on each request until its `with` block ends; a script's end closes the connection."""

    def __init__(self, script: Script) -> None:
        self._script, self._number, self._open = script, 0, True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[Request] = []

    def __enter__(self) -> Self:
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (more := connection.recv(65536)):
                head += more
            if not head:
                return
            first, *lines = head.decode("latin1").split("\r\n\r\n")[0].split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            request = Request(self._number, first.split(" ")[1], headers)
            self._number += 1
            self.asked.append(request)
            for step in self._script(request):
                if not self._open:
                    return
                if isinstance(step, bytes):
                    connection.sendall(step)
                elif isinstance(step, Reset):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                else:
                    time.sleep(step)


def head(status: str = "200 OK", /, **headers: object) -> bytes:
    """The head of an answer; a header's _ stands for -."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\nConnection: close\r\n\r\n").encode("latin1")


def served(request: Request, content: bytes, **headers: object) -> bytes:
    """A right answer: all of `content`, or the part asked for, where If-Range is the ETag of `headers` or absent."""
    wanted = request.headers.get("if-range")
    start = request.start if wanted in (None, headers.get("ETag"), headers.get("Last_Modified")) else 0
    if start >= len(content):
        return head("416 Range Not Satisfiable", Content_Range=f"bytes */{len(content)}")
    if not start:
        return head(Content_Length=len(content), **headers) + content
    place = f"bytes {start}-{len(content) - 1}/{len(content)}"
    body = content[start:]
    return head("206 Partial Content", Content_Range=place, Content_Length=len(body), **headers) + body
