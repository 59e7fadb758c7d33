"""One HTTP request that cannot hang: whatever the server does, bytes come at a least speed, or the connection is cut."""

from __future__ import annotations

import base64
import http.client
import netrc
import re
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.message import Message
from threading import Event, Thread
from typing import Any, Self

from pipeline.errors import PipelineError

_UNTRIED = (urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor, urllib.request.UnknownHandler)


class HttpError(Exception):
    """The server answered with an error."""

    def __init__(self, code: int, reason: str, headers: Message) -> None:
        super().__init__(f"HTTP {code} {reason}")
        self.code, self.headers = code, headers


class Answer:
    """A server's answer; use as a context manager."""

    def __init__(self, response: Any, watch: _Watch) -> None:
        self._response, self._watch = response, watch
        self.status: int = response.status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.end()
        self._response.close()

    def header(self, name: str) -> str:
        """Its value; "" where the server gives none."""
        return str(self._response.headers.get(name, "")).strip()

    @property
    def length(self) -> int:
        """Bytes of the body; -1 where the server does not say."""
        text = self.header("Content-Length")
        chunked = "chunked" in self.header("Transfer-Encoding").lower()
        return int(text) if re.fullmatch(r"\d{1,18}", text) and not chunked else -1

    @property
    def validator(self) -> str:
        """What tells this version of the file from others: a strong ETag, or the date of its last change; or ""."""
        tag = self.header("ETag")
        return tag if re.fullmatch(r'"[\x21\x23-\x7e]*"', tag) else self.header("Last-Modified")

    def read(self, size: int) -> bytes:
        """At most `size` bytes of the body, b"" at its end.

        Raises:
            ConnectionError: too few bytes came in the time, or the body ended within a chunk.
        """
        try:
            content: bytes = self._response.read1(size)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._watch.require_fast()
            raise ConnectionError(f"the connection broke ({str(error) or type(error).__name__})") from None
        self._watch.require_fast()
        self._watch.came += len(content)
        return content


def open_url(url: str, headers: Mapping[str, str], timeout_s: float, least: int) -> Answer:
    """Requests a URL of the web, with the login that ~/.netrc or the URL (user:password@host) has for its host.

    A host to which it redirects does not get the login.

    Args:
        timeout_s, least: in each span of so many seconds, the answer's head or so many bytes must come.
    Raises:
        HttpError: the server answered with an error.
        ConnectionError: no answer, or one that is no HTTP.
        PipelineError: ~/.netrc cannot be used.
    """
    parts = urllib.parse.urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host)))
    for name, value in {"Accept-Encoding": "identity", **headers}.items():
        request.add_header(name, value)
    if login := urllib.parse.unquote_to_bytes(user) or _login(parts.hostname or ""):
        token = base64.b64encode(login).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    watch = _Watch(timeout_s, least)
    try:
        return Answer(_opener(watch).open(request, timeout=timeout_s), watch)
    except urllib.error.HTTPError as error:
        watch.end()
        error.close()
        raise HttpError(error.code, str(error.reason), error.headers) from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: heads that are no HTTP
        watch.end()
        watch.require_fast()
        raise ConnectionError(str(getattr(error, "reason", error)) or type(error).__name__) from None


def _login(host: str) -> bytes:
    """user:password of the host in ~/.netrc, or b""."""
    try:
        entry = netrc.netrc().authenticators(host)
    except FileNotFoundError:
        return b""
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError):  # whose words may hold the password
        raise PipelineError(
            "~/.netrc cannot be used; let each line be `machine HOST login USER password PASSWORD`, and the file yours "
            "alone (chmod 600 ~/.netrc)"
        ) from None
    return f"{entry[0]}:{entry[2]}".encode() if entry and entry[2] else b""


def _opener(watch: _Watch) -> urllib.request.OpenerDirector:
    """Takes http and https alone: a redirection cannot lead to a file or to FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), _Redirects(), _Web(watch), *(kind() for kind in _UNTRIED)):
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.type == "https" and not newurl.startswith("https:"):
            raise urllib.error.URLError("it redirects from https to an address without encryption")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Web(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, req: Any) -> Any:
        return self.do_open(_watched(http.client.HTTPConnection, self._watch), req)

    def https_open(self, req: Any) -> Any:
        return self.do_open(_watched(http.client.HTTPSConnection, self._watch), req)


def _watched(kind: type[http.client.HTTPConnection], watch: _Watch) -> Callable[..., http.client.HTTPConnection]:
    def connection(*arguments: Any, **options: Any) -> http.client.HTTPConnection:
        made = kind(*arguments, **options)
        connect = made.connect

        def connect_and_watch() -> None:
            connect()
            watch.follow(made.sock)

        made.connect = connect_and_watch  # type: ignore[method-assign]
        return made

    return connection


class _Watch(Thread):
    """Cuts a connection that brings fewer than `least` bytes in `timeout_s`.

    A socket's own timeout does not see a server that sends a byte now and then, in its headers for example.
    """

    def __init__(self, timeout_s: float, least: int) -> None:
        super().__init__(daemon=True, name="least speed")
        self._timeout_s, self._least = timeout_s, least
        self._done, self._slow = Event(), False
        self._socket: socket.socket | None = None
        self.came = 0  # bytes

    def follow(self, connected: socket.socket) -> None:
        """Watches this connection from now on, a former one no more."""
        self._socket = connected
        if not self.is_alive():
            self.start()

    def run(self) -> None:
        before = 0
        while not self._done.wait(self._timeout_s):
            if self.came - before < self._least:
                self._slow = True
                with suppress(OSError):
                    # Not SSLSocket's own shutdown, which is made for the thread that reads.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # type: ignore[arg-type]
                return
            before = self.came

    def end(self) -> None:
        """Stops watching."""
        self._done.set()

    def require_fast(self) -> None:
        """Raises ConnectionError if the connection was cut."""
        if self._slow:
            raise ConnectionError(f"less than {self._least:,} bytes came in {self._timeout_s:g} s")
