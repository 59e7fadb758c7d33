"""HTTP servers that misbehave, against the download of a data set.

Every download ends in time, with the right bytes under the right name or with one sentence and no file. Where a server
recovers, the download has to succeed.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipeline.data.download import Patience, UnavailableError, download
from reliability import Outcome, child
from reliability.server import Request, Reset, Script, Server, head, served

PROMISE = "the right bytes or one sentence, in time; no incomplete file under the final name"
TRIALS = 100
LIMIT = 1_000_000  # bytes
IMPATIENT = Patience(tries=3, wait_s=0.0, longest_wait_s=1.0, timeout_s=0.25, least=64)
WHOLE, REFUSED, EITHER = "whole", "refused", "whole or refused"


class Case(NamedTuple):
    script: Script
    ends: str = EITHER
    checked: bool = True  # with the published MD5
    before: dict[str, bytes] = {}  # suffix -> content of a file that an earlier attempt at this URL left  # noqa: RUF012


Steps = Iterator[bytes | float | Reset]


def _answers(*answers: Callable[[Request], bytes]) -> Script:
    """The first request gets the first answer, and so on; later ones get the last."""

    def script(request: Request) -> Steps:
        yield answers[min(request.number, len(answers) - 1)](request)

    return script


def _raw(*parts: bytes | float | Reset) -> Script:
    def script(_: Request) -> Steps:
        yield from parts

    return script


def _endless(first: bytes, part: bytes, pause: float = 0.0) -> Script:
    def script(_: Request) -> Steps:
        yield first
        while True:
            yield part
            if pause:
                yield pause

    return script


def _cut(content: bytes, size: int, **headers: object) -> Callable[[Request], bytes]:
    """A right answer that breaks off after `size` bytes of its body."""

    def answer(request: Request) -> bytes:
        top, _, body = served(request, content, **headers).partition(b"\r\n\r\n")
        return top + b"\r\n\r\n" + body[:size]

    return answer


def _status(status: str, body: bytes = b"", **headers: object) -> Callable[[Request], bytes]:
    return lambda _: head(status, Content_Length=len(body), **headers) + body


def _chunked(content: bytes, size: int, end: bytes = b"0\r\n\r\n") -> bytes:
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head(Transfer_Encoding="chunked") + body + end


def _partial(content: bytes, place: str, body: bytes, **headers: object) -> Callable[[Request], bytes]:
    """Breaks off first; then a partial answer that says `place`."""
    top = head("206 Partial Content", Content_Range=place, Content_Length=len(body), **headers)
    return lambda request: (_cut(content, 5000, ETag='"a"')(request)) if not request.number else top + body


def _resuming(rng: random.Random, content: bytes) -> dict[str, Case]:
    """Of broken connections, changing files and partial answers."""
    n, size = rng.randrange(100, len(content) - 100), len(content)
    good = partial(served, content=content, ETag='"a"')
    other = rng.randbytes(size)
    digest = hashlib.sha256(b"another").hexdigest()
    facts = b'{"url": "%s", "validator": "", "total": 9}' % digest.encode()
    return {
        "breaks off once": Case(_answers(_cut(content, n, ETag='"a"'), good), WHOLE, rng.random() < 0.5),
        "breaks off, no ETag": Case(_answers(_cut(content, n), partial(served, content=content)), WHOLE, checked=False),
        "breaks off again and again": Case(_answers(_cut(content, size // 9, ETag='"a"')), WHOLE, checked=False),
        "the file changes": Case(_answers(_cut(other, n, ETag='"b"'), good), WHOLE, checked=False),
        "the date changes": Case(
            _answers(_cut(other, n, Last_Modified="Mon, 05 Jan 2026 00:00:00 GMT"), good), WHOLE, checked=False
        ),
        "the file changes, If-Range is ignored": Case(
            _answers(
                _cut(other, n, ETag='"b"'),
                lambda r: served(Request(1, "", {"range": r.headers["range"]}), content, ETag='"a"'),
                good,
            ),
            WHOLE,
            checked=False,
        ),
        "the file changes, no ETag": Case(_answers(_cut(other, n), partial(served, content=content)), WHOLE),
        "another range than asked for": Case(
            _answers(_partial(content, f"bytes 0-{size - 1}/{size}", content)), checked=False
        ),
        "a range that lies about its end": Case(
            _answers(_partial(content, f"bytes 5000-{size}/{size}", content[5000:]))
        ),
        "a range of another length": Case(_answers(_partial(content, f"bytes 5000-{n}/{size}", content[5000:n]))),
        "a partial answer without its range": Case(_answers(_partial(content, "", content[5000:])), checked=False),
        "several ranges": Case(_answers(_partial(content, "", b"--x", Content_Type="multipart/byteranges")), REFUSED),
        "416 of another length": Case(
            _answers(_cut(content, n, ETag='"a"'), _status("416 No", Content_Range="bytes */77"), good), WHOLE
        ),
        "416 always": Case(_answers(_status("416 No", Content_Range=f"bytes */{n}")), REFUSED),
        "a part of another URL": Case(_answers(good), WHOLE, False, {".part": other[:n], ".part.json": facts}),
        "a part without its facts": Case(_answers(good), WHOLE, before={".part": other[:n]}),
        "a part with broken facts": Case(_answers(good), WHOLE, before={".part": other[:n], ".part.json": b"{]"}),
        "a part longer than the file": Case(_answers(good), WHOLE, before={".part": other + b"x"}),
    }


def _statuses(rng: random.Random, content: bytes) -> dict[str, Case]:
    """Of refusals, redirections and heads."""
    good = partial(served, content=content)
    busy = rng.choice(("408 Slow", "429 Busy", "500 Oh", "502 Bad", "503 Busy", "504 Late"))
    final = rng.choice(("400 Bad", "401 Who", "403 No", "404 Not Found", "410 Gone", "451 Law", "501 What"))
    past = "Mon, 05 Jan 2015 00:00:00 GMT"
    page = b"<html>please log in</html>"

    def hop(target: str) -> Script:
        return _answers(lambda r: head("302 Found", Location=target) if r.path == "/set.tgz" else good(r))

    return {
        "busy twice": Case(_answers(_status(busy), _status(busy, Retry_After=0), good), WHOLE),
        "busy, with a date": Case(_answers(_status(busy, Retry_After=past), good), WHOLE),
        "busy for ever": Case(_answers(_status(busy)), REFUSED),
        "busy for eleven days": Case(_answers(_status("429 Busy", Retry_After=10**6)), REFUSED),
        "refused": Case(_answers(_status(final)), REFUSED),
        "controls in the reason": Case(_raw(b"HTTP/1.1 404 \x1b[31mgone\x07\r\n\r\n"), REFUSED),
        "a page to log in": Case(_answers(_status("200 OK", page, Content_Type="text/html")), REFUSED, False),
        "a page of no type": Case(_answers(_status("200 OK", page)), REFUSED),
        "no content": Case(_answers(_status("204 Nothing")), REFUSED),
        "304": Case(_answers(_status("304 Not Modified")), REFUSED),
        "100 before 200": Case(lambda r: iter([b"HTTP/1.1 100 Continue\r\n\r\n", good(r)]), WHOLE),
        "a redirection": Case(hop("/other.tgz"), WHOLE),
        "a redirection to itself": Case(hop("/set.tgz"), REFUSED),
        "redirections without end": Case(_answers(lambda r: head("301 Moved", Location=f"/{r.number}.tgz")), REFUSED),
        "a redirection to a file": Case(hop("file:///etc/passwd"), REFUSED),
        "a redirection to FTP": Case(hop("ftp://127.0.0.1/set.tgz"), REFUSED),
        "a redirection to nowhere": Case(hop("http://127.0.0.1:9/set.tgz"), REFUSED),
        "a redirection with controls": Case(hop("http://127.0.0.1:9/\x1b]0;x\x07 y"), REFUSED),
        "no status": Case(_raw(rng.randbytes(300) + b"\r\n\r\n"), REFUSED),
        "another protocol": Case(_raw(b"SSH-2.0-OpenSSH_9.9\r\n"), REFUSED),
        "no answer": Case(_raw(), REFUSED),
        "a reset": Case(_raw(head(Content_Length=len(content)) + content[:999], Reset()), REFUSED),
        "a long header": Case(_raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"), REFUSED),
        "headers without end": Case(_endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), REFUSED),
        "100 without end": Case(_endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), REFUSED),
    }


def _bodies(rng: random.Random, content: bytes) -> dict[str, Case]:
    """Of lengths, encodings and speeds."""
    n, size = rng.randrange(100, len(content) - 100), len(content)
    plain, slow = head(Content_Length=size), rng.choice((0.02, 0.1))
    flipped = bytearray(content)
    flipped[n] ^= 1 << rng.randrange(8)
    unequal = rng.choice(("abc", "-5", "1e9", "", "99999999999999999999999"))
    return {
        "a right answer": Case(_answers(partial(served, content=content)), WHOLE, rng.random() < 0.5),
        "more announced than sent": Case(_raw(head(Content_Length=size + 100) + content), REFUSED, False),
        "less announced than sent": Case(_raw(head(Content_Length=n) + content), REFUSED),
        "a length that is none": Case(_raw(head(Content_Length=unequal) + content), WHOLE),
        "two lengths": Case(_raw(head(content_length=size, Content_Length=n) + content)),
        "no length": Case(_raw(head() + content), WHOLE, rng.random() < 0.5),
        "no length, cut": Case(_raw(head() + content[:n]), REFUSED),
        "chunks": Case(_raw(_chunked(content, rng.randrange(99, 9999))), WHOLE, False),
        "chunks without their end": Case(_raw(_chunked(content, 5000, b"")), REFUSED, False),
        "a chunk cut": Case(_raw(_chunked(content, 5000)[:n]), REFUSED, False),
        "chunks of no size": Case(_raw(head(Transfer_Encoding="chunked") + b"zz\r\n" + content), REFUSED, False),
        "a chunk of 1 EB": Case(
            _raw(head(Transfer_Encoding="chunked") + b"f" * 15 + b"\r\n" + content), REFUSED, False
        ),
        "a flipped bit": Case(_raw(plain + bytes(flipped)), REFUSED),
        "an encoding": Case(_raw(head(Content_Encoding="br") + content), REFUSED, False),
        "gzip named as an encoding": Case(_raw(head(Content_Encoding="x-gzip", Content_Length=size) + content), WHOLE),
        "a body without end": Case(_endless(head(), bytes(65536)), REFUSED, False),
        "a length of 1 TB": Case(_raw(head(Content_Length=10**12) + content), REFUSED, False),
        "stalls before its head": Case(_raw(5.0), REFUSED),
        "stalls in its head": Case(_raw(plain[:20], 5.0), REFUSED),
        "stalls in its body": Case(_raw(plain + content[:n], 5.0), REFUSED),
        "a head byte by byte": Case(_endless(b"HTTP/1.1 200 OK\r\nX: ", b"x", slow), REFUSED),
        "a body byte by byte": Case(_endless(plain, b"x", slow), REFUSED),
        "a chunk's size byte by byte": Case(_endless(head(Transfer_Encoding="chunked"), b"0", slow), REFUSED),
    }


def campaign(seed: int, scratch: Path) -> Iterator[Outcome]:
    """Every kind of misbehaviour, in turn, with new details each time."""
    rng, tried = random.Random(seed), 0
    while tried < TRIALS:
        content = rng.randbytes(rng.randrange(20_000, 200_000))
        for name, case in cases(rng, content).items():
            tried += 1
            folder = scratch / str(tried)
            folder.mkdir()
            yield tried_case(name, case, content, folder)


def cases(rng: random.Random, content: bytes) -> dict[str, Case]:
    """Each kind of misbehaviour by its name, with details from `rng`."""
    return {**_resuming(rng, content), **_statuses(rng, content), **_bodies(rng, content)}


def tried_case(name: str, case: Case, content: bytes, folder: Path) -> Outcome:
    """Downloads from a server with the case's script."""
    target = folder / "set.tgz"
    md5 = hashlib.md5(content).hexdigest() if case.checked else ""
    with Server(case.script) as server:
        url = f"{server.url}/set.tgz"
        for suffix, left in case.before.items():
            place = hashlib.sha256(url.encode()).hexdigest()[:8]
            target.with_name(f"{target.name}.{place}{suffix}").write_bytes(left)
        ended = child.call(partial(_fetch, url, target, md5), cwd=folder, timeout_s=10.0, memory=1 << 30)
    return Outcome(name, *_judged(case, ended, target, content))


def _fetch(url: str, target: Path, md5: str) -> int:
    try:
        download(url, target, LIMIT, md5, IMPATIENT)
    except UnavailableError as error:
        print(error, file=sys.__stderr__)  # of the child, also where a test captures stderr
        return 2
    return 0


def _judged(case: Case, ended: child.Ended, target: Path, content: bytes) -> tuple[bool, str]:
    left = sorted(path.name for path in target.parent.iterdir())
    if ended.code == 0:
        right = left == [target.name] and target.read_bytes() == content
        return right and case.ends != REFUSED, f"accepted {left}"
    sentence = ended.last_line
    one = sentence.isprintable() and 0 < len(sentence) < 400 and "Traceback" not in ended.output
    clean = ended.code == 2 and one and target.name not in left
    return clean and case.ends != WHOLE, ended.summary()
