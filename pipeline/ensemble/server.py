"""A registered model over HTTP, with limits: MLflow's own server has none, and answers 500 where JSON nests too deep.

POST /invocations takes and answers JSON as MLflow's server does; a prediction is a row of the model's table:
    {"inputs": [image, ...], "params": {"pixels": "uint8"}}  ->  {"predictions": [{class: probability, ...}, ...]}
GET / says what an image is and what the limits are. A request that is refused gets a status of 4xx and {"message": one sentence};
what is no HTTP, and a connection too many, get uvicorn's own answers (400, 503).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import uvicorn
from pydantic_core import from_json, to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.config import ServeConfig
from pipeline.ensemble.pixels import BYTES, PIXELS, pixels_of
from pipeline.errors import PipelineError, printable

READ_S = 30  # for the headers of a request to arrive, and for its body
QUIET_S, LEFT_S = 0.2, 5.0  # without a byte of a refused request until it is answered, and at most
FORM = '{"inputs": [image, ...]}, and "params": {"pixels": "unit"} where numbers are from 0 to 1'


class Served(NamedTuple):
    """A registered model, as the server asks it."""

    about: Mapping[str, Any]  # classes, and what an image is, for GET /
    answer: Callable[[Any, str], Any]  # from images as JSON holds them, and what their numbers mean, to a data frame


def classifier(model: Any) -> Served:
    """An `ensemble.model.EnsembleModel`: a row for each image, a column for each class."""
    return Served(
        {"classes": model.classes, "shape": model.shape},
        lambda images, pixels: model.probabilities(pixels_of(images, model.shape, pixels)),
    )


class _Protocol(H11Protocol):
    """Closes a connection on which the headers of the first or next request take longer than READ_S.

    uvicorn's own timer begins with the first answer, and ends with the first byte that follows; here it also begins with the
    connection, and ends when the headers are there (`handle_events`).
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(READ_S, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        self.conn.receive_data(data)
        self.handle_events()


def server(model: Served, name: str, serve: ServeConfig) -> uvicorn.Server:
    """`run` of it answers requests until a signal comes; see `application`."""
    config = uvicorn.Config(
        application(model, name, serve),
        host=serve.host,
        port=serve.port,
        limit_concurrency=serve.max_connections + 1,  # uvicorn counts the connection that asks
        http=_Protocol,
        timeout_keep_alive=READ_S,
        server_header=False,
        access_log=False,
        log_level="warning",
    )
    return uvicorn.Server(config)


def listening(serve: ServeConfig) -> socket.socket:
    """The socket on which requests arrive, for `uvicorn.Server.run`.

    Raises:
        PipelineError: the port is in use, or the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in serve.host else socket.AF_INET
    try:
        return socket.create_server((serve.host, serve.port), family=family)
    except OSError as error:
        other = serve.port + 1 if serve.port < 65535 else 5001
        raise PipelineError(
            f"serve.host={printable(serve.host)} and serve.port={serve.port}: {printable(error.strerror or error)}; "
            f"end what listens there, or choose another port (override: serve.port={other}) or an address of this machine"
        ) from None


def application(model: Served, name: str, serve: ServeConfig) -> Starlette:
    """The ASGI application.

    Args:
        name: of the registered model and its version.
    """
    # One thread: nets use all cores for one request, and many requests at once would only need more memory.
    worker = ThreadPoolExecutor(1, thread_name_prefix="nets")

    async def invocations(request: Request) -> Response:
        body = await _body(request, serve.max_bytes)
        answer = await asyncio.get_running_loop().run_in_executor(worker, _predict, model, body, serve.max_images)
        return Response(answer, media_type="application/json")

    async def contract(request: Request) -> Response:
        about = {"model": name, **model.about, "request": FORM, "pixels": PIXELS}
        return _json({**about, "most_images": serve.max_images, "most_bytes": serve.max_bytes})

    async def alive(request: Request) -> Response:
        return Response("\n")

    return Starlette(
        routes=[
            Route("/", contract),
            Route("/ping", alive),
            Route("/health", alive),
            Route("/invocations", invocations, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _refused, PipelineError: _refused, ClientDisconnect: _refused},
    )


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):  # Starlette's for a wrong path or method too
        await _drop_rest(request)
        # What is left of a request that was not read to its end would be taken for the next one.
        return _json({"message": error.detail}, error.status_code, {**(error.headers or {}), "Connection": "close"})
    return _json({"message": str(error)}, 400)


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(to_json(value), status, headers, "application/json")


async def _body(request: Request, most: int) -> bytes:
    """The whole body; raises HTTPException as soon as it is not to be read."""
    kind = request.headers.get("Content-Type", "")
    if kind.split(";")[0].strip().lower() != "application/json" or "Content-Encoding" in request.headers:
        raise HTTPException(415, f"Content-Type {printable(repr(kind), 80)}; send application/json, not compressed")
    too_long = HTTPException(413, f"more than {most:,} bytes; send fewer images at once, or encoded ones")
    if int(request.headers.get("Content-Length", "0")) > most:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(READ_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_long
    except TimeoutError:
        raise HTTPException(
            408, f"the request did not arrive within {READ_S} seconds; send fewer or smaller images at once"
        ) from None
    return bytes(body)


async def _drop_rest(request: Request) -> None:
    """Reads on while the client sends: a connection that closes on bytes unread is reset, and its answer may be lost."""
    with suppress(TimeoutError, ClientDisconnect, RuntimeError):  # the last where nothing is left
        async with asyncio.timeout(LEFT_S):
            chunks = request.stream()
            while True:
                async with asyncio.timeout(QUIET_S):
                    if not await anext(chunks, b""):
                        return


def _predict(model: Served, body: bytes, most_images: int) -> bytes:
    """The answer to a request, as JSON.

    Raises:
        PipelineError: the request is not as FORM says.
    """
    try:
        request = from_json(body, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        raise PipelineError(f"no valid JSON ({printable(error, 80)}); send {FORM}") from None
    if not isinstance(request, dict) or set(request) - {"params"} not in ({"inputs"}, {"instances"}):
        raise PipelineError(f"no request as this server takes it; send {FORM}")
    images, params = request.get("inputs", request.get("instances")), request.get("params") or {}
    if not isinstance(params, dict) or set(params) - {"pixels"}:
        raise PipelineError(f'"params" is {printable(repr(params), 80)}; it may hold "pixels" alone; send {FORM}')
    if isinstance(images, list) and len(images) > most_images:
        raise PipelineError(f"{len(images):,} images; send at most {most_images:,} at once")
    table = model.answer(images, params.get("pixels", BYTES))
    return to_json({"predictions": table.to_dict("records")})
