"""The pages' own listening socket: opened where `[web] address` says, and again when another program frees it.

Mail does not wait for the pages: an address that is taken is said in the log and in `relay status`, and tried again.
What the pages stand on takes most of a second to load and make, and 20 MB. So it is made when somebody first comes, in
a thread; who comes meanwhile waits.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from relay import log
from relay.config.endpoint import TcpAddress
from relay.control.results import WebState
from relay.control.transport.socket import made, somebody

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from relay.control.transport.server import HttpServer

_RETRY_SECONDS = 5.0
_BACKLOG = 128


class WebServer:
    """Serves the pages at one address. `make_app` is called, in a thread, with the address that was bound."""

    def __init__(self, address: TcpAddress, make_app: Callable[[TcpAddress], "ASGIApp"]) -> None:
        self._wanted = address
        self._make_app = make_app
        self._server: HttpServer | None = None
        self._task: asyncio.Task[None] | None = None
        self.address: TcpAddress | None = None
        self.trouble = ""

    async def start(self) -> None:
        """Take the address now, or say why not and go on trying."""
        listening = await self._take_address()
        if listening is None:
            log.broken(f"the web pages are not open: {self.trouble}")
        self._task = asyncio.create_task(self._open(listening), name="web")
        await asyncio.sleep(0)  # from its first step on it closes the socket, however it ends

    async def stop(self) -> None:
        """Finish the requests that run, for at most a second, and close."""
        if self._task is not None:
            if self._server is None:  # else it begins just now, and has the socket
                self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._server is not None:
            await self._server.stop()
        self._server = self.address = None

    @property
    def state(self) -> WebState:
        """Where the pages are, or why they are not there."""
        return WebState(address=str(self.address) if self.address else None, trouble=self.trouble)

    async def _open(self, listening: socket.socket | None) -> None:
        """Serve as soon as there is an address, and somebody asks."""
        if listening is None:
            listening = await self._late_address()
        try:
            await somebody(listening)
            await self._serve(listening)
        except Exception as error:  # whatever it is, mail goes on
            listening.close()
            self.address, self.trouble = None, f"a fault of ours ({type(error).__name__}); the log has more"
            log.broken("the web pages are not open by a fault of ours; please report it", exc_info=True)
        except BaseException:
            listening.close()
            raise

    async def _late_address(self) -> socket.socket:
        listening = None
        while listening is None:
            await asyncio.sleep(_RETRY_SECONDS)
            listening = await self._take_address()
        log.warned(f"the web pages are open now at {self.address}")
        return listening

    async def _serve(self, listening: socket.socket) -> None:
        assert self.address is not None
        self._server = await made(self._make_server, self.address)
        await self._server.start(listening)

    def _make_server(self, address: TcpAddress) -> "HttpServer":
        from relay.control.transport.server import HttpServer  # noqa: PLC0415
        from relay.web.kit.protocol import WebProtocol  # noqa: PLC0415

        return HttpServer(self._make_app(address), "web", WebProtocol)

    async def _take_address(self) -> socket.socket | None:
        try:
            listening = await _listen(self._wanted)
        except OSError as error:
            words = (error.strerror or str(error)).lower()
            self.trouble = f"{self._wanted}: {words}; end the other program, or set another [web] address"
            return None
        self.address = TcpAddress(self._wanted.host, listening.getsockname()[1])
        self.trouble = ""
        return listening


async def _listen(address: TcpAddress) -> socket.socket:
    """Return a listening TCP socket. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, where = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind(where)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
