"""uvicorn inside our own event loop: no signal handlers, no own log, and the peer's user id with each request.

SECURITY: the owner of the control socket and root may ask, nobody else. The socket's mode (0600) keeps others out
already. The kernel's word about the peer (SO_PEERCRED, unix(7)) holds where a mode was widened by hand, or where a
descriptor was passed on.
"""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

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
