"""Requests to the model server, good and hostile, from four clients at once.

The server is `pipeline serve` in a process of its own, with an ensemble that was trained for this. Each good request has to
get the same probabilities each time, each hostile one a refusal; at the end the server's memory is what it was.
"""

from __future__ import annotations

import base64
import errno
import http.client
import json
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from reliability import Outcome, child

PROMISE = (
    "the right probabilities, or 4xx and one sentence (4xx or no answer to what is not HTTP); no 5xx; constant memory"
)
ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    *("model.depth=8", "recipe.max_steps=20", "trainer.accelerator=cpu", "trainer.compile=false"),
    *("tracking.system_metrics_every_s=0", "ensemble=top_k", "ensemble.size=2"),
)
SECONDS, CLIENTS, SIDE = 60.0, 4, 8
MOST_BYTES = 1 << 20
GROWTH = 32 << 20  # bytes that memory may grow by, from the tenth second on
Send = tuple[bytes, dict[str, str]]  # body, headers


def campaign(seed: int, scratch: Path) -> Iterator[Outcome]:
    import pipeline.stages.ensemble
    import pipeline.stages.preprocess
    import pipeline.stages.train  # noqa: F401 (the children need them)

    for name in ("conf", "params.yaml"):
        source = ROOT / name
        shutil.copytree(source, scratch / name) if source.is_dir() else shutil.copy(source, scratch / name)
    for verb, *more in (("fetch",), ("preprocess",), ("train", "seed=0"), ("train", "seed=1"), ("ensemble",)):
        ended = child.pipeline(verb, *SMALL, *more, cwd=scratch, timeout_s=300)
        if ended.code:
            yield Outcome(f"pipeline {verb}", False, ended.summary())
            return
    port, log = _free_port(), scratch / "serve.log"
    command = [sys.executable, "-m", "pipeline", "serve", *SMALL, f"serve.port={port}", f"serve.max_bytes={MOST_BYTES}"]
    with log.open("wb") as stream:
        server = subprocess.Popen(command, cwd=scratch, stdout=stream, stderr=stream)
    try:
        _wait(server, port, log)
        yield from _tried(seed, port, psutil.Process(server.pid))
    finally:
        server.terminate()
        server.wait(30)
    output = log.read_text(encoding="utf-8", errors="replace")
    yield Outcome("what the server prints", "Traceback" not in output, output[-300:])


def _tried(seed: int, port: int, process: psutil.Process) -> Iterator[Outcome]:
    images = np.load(next(Path(process.cwd()).glob("data/store/*/train_images.npy")))[:20]
    client = Client(port, images)
    client.answer = client.ask(*_json({"inputs": images.tolist()}))[1]
    end = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(_one_client, client, f"{seed}-{number}", end) for number in range(CLIENTS)]
        time.sleep(10)
        before = process.memory_info().rss
        for each in clients:
            yield from each.result()
    after = process.memory_info().rss
    yield Outcome(
        "memory after a minute", after - before < GROWTH, f"{before / 1e6:.0f} MB became {after / 1e6:.0f} MB"
    )


def _one_client(client: Client, seed: str, end: float) -> list[Outcome]:
    rng, outcomes = random.Random(seed), []
    while time.monotonic() < end:
        name = rng.choice(KINDS)
        try:
            outcomes.append(client.tried(name, rng))
        except Exception as error:  # whatever the connection raises: the server should have answered
            outcomes.append(Outcome(name, False, repr(error)))
    return outcomes


class Client:
    """Sends requests to the server at `port`."""

    def __init__(self, port: int, images: np.ndarray) -> None:
        self._port, self._images = port, images
        self.answer: Any = None  # to all of `images`

    def tried(self, kind: str, rng: random.Random) -> Outcome:
        if kind in RAW:
            return self._raw(kind, RAW[kind](rng))
        if kind not in GOOD:
            status, answer = self.ask(*HOSTILE[kind](rng, self._images[:1]))
            sentence = answer.get("message", "") if isinstance(answer, dict) else ""
            ok = 400 <= status < 500 and 0 < len(sentence) < 500 and "\n" not in sentence
            return Outcome(kind, ok, f"{status} {str(answer)[:200]}")
        chosen = [rng.randrange(len(self._images)) for _ in range(rng.randrange(1, 9))]
        status, answer = self.ask(*GOOD[kind](self._images[chosen]))
        expected = [self.answer["predictions"][index] for index in chosen]
        ok = status == 200 and np.allclose(_table(answer["predictions"]), _table(expected), atol=1e-5)
        return Outcome(kind, ok, f"{status} {str(answer)[:200]}")

    def ask(self, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before its end; the answer is there
                connection.request("POST", "/invocations", body, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def _raw(self, kind: str, content: bytes) -> Outcome:
        """Bytes that are no whole request; then nothing more. An answer, if there is one, is 4xx."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as connection:
            try:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(64)
            except OSError as error:  # a server that has read enough need not read the rest
                if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                    raise
        return Outcome(kind, not answer or answer.startswith(b"HTTP/1.1 4"), repr(answer))


def _table(predictions: list[dict[str, float]]) -> list[list[float]]:
    return [list(row.values()) for row in predictions]


def _json(request: Any) -> Send:
    return json.dumps(request).encode(), {}


def _encoded(image: np.ndarray, form: str = "PNG", size: int = SIDE) -> str:
    stream = BytesIO()
    Image.fromarray(image[..., 0]).resize((size, size)).save(stream, form)
    return base64.b64encode(stream.getvalue()).decode()


def _pixel(*values: Any) -> Any:
    """One pixel of a good image is one of the values."""

    def request(rng: random.Random, images: np.ndarray) -> Send:
        nested = images.tolist()
        nested[0][rng.randrange(SIDE)][rng.randrange(SIDE)][0] = rng.choice(values)
        return _json({"inputs": nested})

    return request


GOOD = {
    "bytes": lambda images: _json({"inputs": images.tolist()}),
    "declared fractions": lambda images: _json({"inputs": (images / 255).tolist(), "params": {"pixels": "unit"}}),
    "PNG": lambda images: _json({"instances": [_encoded(image) for image in images]}),
}
HOSTILE: dict[str, Any] = {
    "fractions": lambda rng, images: _json({"inputs": (images / rng.choice((255, 2, 1))).tolist()}),
    "a fraction": _pixel(0.5, 1.0, 254.9, 1e-9),
    "outside": _pixel(-1, 256, 10**30, -(2**63), 1e300),
    "no number": _pixel(True, False, None, "7", "", [], {}, [1, 2], {"a": 1}),
    "NaN": _pixel(float("nan"), float("inf"), -float("inf")),
    "declared fractions that are none": lambda rng, images: _json(
        {"inputs": (images.astype(int) + rng.choice((2, -300, 300))).tolist(), "params": {"pixels": "unit"}}
    ),
    "another layout": lambda rng, images: _json({"inputs": images.transpose(0, 3, 1, 2).tolist()}),
    "another size": lambda rng, images: _json({"inputs": images[:, : rng.randrange(SIDE)].tolist()}),
    "ragged": lambda rng, images: _json({"inputs": [*images.tolist(), images[0].tolist()[: rng.randrange(SIDE)]]}),
    "no list": lambda rng, images: _json({"inputs": rng.choice((None, 3, "x", {}, [], [[]], [None], {"b64": "eA=="}))}),
    "too many images": lambda rng, images: _json({"inputs": [[]] * rng.randrange(257, 99999)}),
    "no such request": lambda rng, images: _json(
        rng.choice(([], 1, None, "x", {}, {"input": []}, {"dataframe_split": {}}, {"inputs": [], "instances": []}))
    ),
    "odd params": lambda rng, images: _json(
        {"inputs": images.tolist(), "params": rng.choice(([1], {"a": 1}, {"pixels": "float"}, {"pixels": 1}, "unit"))}
    ),
    "deep": lambda rng, _: (rng.choice((b"[", b'{"inputs":', b'{"inputs":[')) * rng.choice((300, 9_000, 90_000)), {}),
    "a long number": lambda rng, _: (b'{"inputs": %s}' % (b"9" * rng.randrange(5000, 900_000)), {}),
    "no JSON": lambda rng, _: (rng.randbytes(rng.randrange(3000)), {}),
    "cut JSON": lambda rng, images: (_json({"inputs": images.tolist()})[0][: rng.randrange(200)], {}),
    "no text": lambda rng, images: (_json({"inputs": images.tolist()})[0].decode().encode("utf-16"), {}),
    "too long": lambda rng, _: (b" " * (MOST_BYTES + rng.randrange(1, 3 * MOST_BYTES)), {}),
    "another type": lambda rng, images: (
        _json({"inputs": images.tolist()})[0],
        {"Content-Type": rng.choice(("text/csv", "text/plain", "", "multipart/form-data; boundary=a"))},
    ),
    "compressed": lambda rng, images: (_json({"inputs": images.tolist()})[0], {"Content-Encoding": "gzip"}),
    "no base64": lambda rng, _: _json({"inputs": [rng.choice(("%", "a", "QUJD", "data:image/png;base64,AA=="))]}),
    "a cut image": lambda rng, images: _json({"inputs": [_encoded(images[0])[: 4 * rng.randrange(20)]]}),
    "a large image": lambda rng, images: _json({"inputs": [_encoded(images[0], size=rng.choice((9, 500, 3000)))]}),
    "another format": lambda rng, images: _json({"inputs": [_encoded(images[0], rng.choice(("GIF", "BMP", "TIFF")))]}),
}
_HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
RAW: dict[str, Any] = {
    "no HTTP": lambda rng: rng.randbytes(rng.randrange(1, 2000)) + b"\r\n\r\n",
    "half a head": lambda rng: _HEAD[: rng.randrange(1, len(_HEAD))],
    "a long head": lambda rng: _HEAD + b"X: " + b"y" * rng.randrange(70_000, 200_000) + b"\r\n\r\n",
    "a length that is none": lambda rng: _HEAD + b"Content-Length: " + rng.choice((b"-1", b"x", b"1e3")) + b"\r\n\r\n",
    "a hang-up": lambda rng: _HEAD + b"Content-Length: 5000\r\n\r\n" + b"[" * rng.randrange(5000),
    "broken chunks": lambda rng: _HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + rng.randbytes(50),
    "another method": lambda rng: b"%s / HTTP/1.1\r\nHost: x\r\n\r\n" % rng.choice((b"PUT", b"DELETE", b"TRACE")),
}
KINDS = [*GOOD] * 8 + [*HOSTILE, *RAW]


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Returns when the server answers."""
    end = time.monotonic() + 120
    while time.monotonic() < end and server.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ping")
            connection.getresponse()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(
        f"the server did not start, exit status {server.poll()}: {log.read_text(encoding='utf-8')[-300:]}"
    )
