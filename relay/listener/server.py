"""All [[listener]]s of the settings as one thing that opens and stops."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from relay.endpoint import UnixAddress
from relay.listener.crowd import Crowd
from relay.listener.peer import Gate
from relay.listener.ports import Desk
from relay.listener.session import Session
from relay.listener.sockets import ListenError, bound_addresses, listen
from relay.listener.tolerance import Tolerance
from relay.settings import Limits, Listener

__all__ = ["ListenError", "Listeners"]

# Who may connect to a unix socket is said by its folder; the kernel asks for write permission on the socket as well.
_ANYBODY = 0o666


class Listeners:
    """The doors of one relay, and everybody who came in by them."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        limits: Limits,
        desk: Desk,
        *,
        tolerance: Tolerance | None = None,
        unix_mode: int = _ANYBODY,
    ) -> None:
        self._listeners = tuple(listeners)
        self._limits = limits
        self._desk = desk
        self._tolerance = tolerance or Tolerance()
        self._unix_mode = unix_mode
        self._crowd = Crowd(limits)
        self._servers: list[asyncio.Server] = []
        self._socket_files: list[tuple[Path, int]] = []

    async def open(self) -> None:
        """Open every address, or none: raises ListenError with the sentence about the first that cannot be had."""
        try:
            for listener in self._listeners:
                await self._open(listener)
        except ListenError:
            self._close_sockets()
            raise

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where clients can connect now, as they are written in the settings, with the real ports."""
        return tuple(name for server in self._servers for name in bound_addresses(server))

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._crowd)

    async def stop(self, patience: float) -> None:
        """Let nobody in, end idle sessions, and give those within a message `patience` seconds to end it.

        A message that is still being handed over after that goes on without its client.
        """
        self._close_sockets()
        await self._crowd.stop(patience)

    async def _open(self, listener: Listener) -> None:
        endpoint = listener.endpoint
        gate = Gate(listener.trusted_networks, listener.may_send_as, is_unix=isinstance(endpoint, UnixAddress))
        server = await listen(endpoint, lambda: self._session(gate), self._unix_mode)
        self._servers.append(server)
        if isinstance(endpoint, UnixAddress):
            self._socket_files.append((endpoint.path, endpoint.path.stat().st_ino))

    def _session(self, gate: Gate) -> Session:
        return Session(self._desk, self._limits, self._tolerance, gate, self._crowd)

    def _close_sockets(self) -> None:
        # Server.wait_closed() is not awaited: from Python 3.12 on it waits for every session.
        for server in self._servers:
            server.close()
        self._servers.clear()
        for path, inode in self._socket_files:
            # A relay that was started meanwhile has its own socket under this name.
            if path.exists() and path.stat().st_ino == inode:
                path.unlink()
        self._socket_files.clear()
