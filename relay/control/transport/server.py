"""The server behind control.sock: HTTP over a unix socket, on which the commands reach a running relay.

`POST /do/NAME` with the parameters as a JSON object answers the operation's result as JSON. An operation that goes on
for a while answers lines of JSON (application/x-ndjson), each `{"item": …}`, and at the end `{"end": true}`, or
`{"error": "…"}` if it ends early; an answer without either was cut off. `GET /status` answers the status, `GET
/metrics` the counters as text for Prometheus. A refusal is `{"ok": false, "error": "…"}` with a 4xx. The header
`Relay-State-Dir` of a request names the state_dir that the command means; a relay with another one refuses.

`HttpServer` is uvicorn inside our own event loop, for the pages too: without signal handlers and a log of its own.

SECURITY: the owner of the control socket and root may ask, nobody else. The socket's mode (0600) keeps others out
already. The kernel's word about the peer (SO_PEERCRED, unix(7)) holds even if a mode was widened by hand or a
descriptor was passed on.
"""

import asyncio
import json
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from relay import log
from relay.control.actor import commanding
from relay.control.json_values import as_json, fields_of, json_text
from relay.control.operations import Operations
from relay.control.refused import Refused, UnknownOperation
from relay.metrics import CONTENT_TYPE
from relay.system.peer_credentials import peer_uid

_GRACE_SECONDS = 1


def may_ask(uid: int) -> bool:
    """Whether a user may give orders to this process: the one it runs as, and root."""
    return uid in {0, os.geteuid()}


class PeerProtocol(H11Protocol):
    """HTTP/1.1 on a unix socket; the application finds the peer's user id as `request.state.uid`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the kernel who connected, then go on as usual."""
        self.app_state = {**self.app_state, "uid": peer_uid(transport.get_extra_info("socket"))}
        super().connection_made(transport)


class QuietServer(Server):
    """A uvicorn server that leaves the process's signals alone, and says when it serves."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install nothing: `service` decides when everything stops."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open as usual, then tell."""
        await super().startup(sockets)
        self.ready.set()


class HttpServer:
    """An ASGI application on a listening socket. `protocol` is how HTTP is spoken there."""

    def __init__(self, app: ASGIApp, name: str, protocol: type[H11Protocol] = H11Protocol) -> None:
        self._app = app
        self._name = name
        self._protocol = protocol
        self._server: QuietServer | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, listening: socket.socket) -> None:
        """Serve on a socket that listens already; it is closed with the server."""
        config = Config(
            self._app,
            http=self._protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        self._server = QuietServer(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]), name=self._name)
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Finish the requests that run, for at most a second, and close."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._server = self._task = None


STATE_DIR_HEADER = "Relay-State-Dir"
_MOST_BYTES = 32 * 1024 * 1024  # a request: `relay directory import` of a hundred thousand agents has some 15 MB


class CommandServer:
    """Serves the operations of a running relay to its owner and to root."""

    def __init__(self, operations: Operations, state_dir: Path) -> None:
        self._operations = operations
        self._state_dir = state_dir.resolve()
        routes = [
            Route("/status", self._status, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
            Route("/do/{name}", self._do, methods=["POST"]),
        ]
        self._server = HttpServer(Starlette(routes=routes), "control.sock", PeerProtocol)

    async def start(self, listening: socket.socket) -> None:
        """Serve on a socket that listens already; it is closed with the server."""
        await self._server.start(listening)

    async def stop(self) -> None:
        """Answer what was asked, for at most a second, and close."""
        self._operations.end()
        await self._server.stop()

    async def _status(self, request: Request) -> Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        try:
            return JSONResponse(as_json(await self._operations.run("status", {}, commanding(request.state.uid))))
        except Refused as error:  # the store cannot be used
            return _failure(503, str(error))

    async def _metrics(self, request: Request) -> Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        try:
            text = await self._operations.run("metrics", {}, commanding(request.state.uid))
        except Refused as error:
            return _failure(503, str(error))
        return Response(text, media_type=CONTENT_TYPE)

    async def _do(self, request: Request) -> Response:
        name = request.path_params["name"]
        try:
            # The whole request is read before any answer: who is refused is still writing otherwise.
            body = await _body(request)
            if (refusal := self._refusal(request)) is not None:
                return refusal
            params, actor = _parameters(body), commanding(request.state.uid)
            if self._operations.is_stream(name):
                lines = _lines(self._operations.batches(name, params, actor))
                return StreamingResponse(lines, media_type="application/x-ndjson")
            result = await self._operations.run(name, params, actor)
        except UnknownOperation as error:
            return _failure(404, str(error))
        except Refused as error:
            return _failure(409, str(error))
        return Response(await asyncio.to_thread(json_text, result), media_type="application/json")

    def _refusal(self, request: Request) -> Response | None:
        uid = request.state.uid
        if not may_ask(uid):
            log.refused(what="control.sock", uid=uid)
            return _failure(403, "only root and the user that relay runs as may use its control socket")
        meant = request.headers.get(STATE_DIR_HEADER)
        if meant is not None and meant != str(self._state_dir):
            return _failure(
                421,
                f"the relay that runs here keeps its state in {self._state_dir}, your settings say {meant}; "
                "name its settings file with --config",
            )
        return None


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise Refused("the request is too large")
    return bytes(body)


def _parameters(body: bytes) -> dict[str, Any]:
    try:
        params = json.loads(body or b"{}")
    except ValueError:
        params = None
    if not isinstance(params, dict):
        raise Refused("the parameters must be a JSON object")
    return params


async def _lines(batches: AsyncGenerator[list[Any]]) -> AsyncIterator[bytes]:
    try:
        async with aclosing(batches):
            async for batch in batches:
                yield b"".join(_line({"item": item}) for item in batch)
        yield _line({"end": True})
    except Refused as error:
        yield _line({"error": str(error)})


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, default=fields_of).encode() + b"\n"


def _failure(status: int, error: str) -> Response:
    return JSONResponse({"ok": False, "error": error}, status_code=status)
