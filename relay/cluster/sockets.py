"""The listening sockets of all workers. The supervisor opens them, so that they outlive a worker that crashes.

At a TCP address each worker has a socket of its own (SO_REUSEPORT, socket(7)): the kernel spreads the clients over
them, and a client that connected to one whose worker is just replaced waits for the next worker. A unix socket and what
systemd passed is shared by all.
"""

import errno
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from relay.config.endpoint import TcpAddress, UnixAddress
from relay.config.settings import Settings
from relay.listener.sockets import (
    ANYBODY,
    BACKLOG,
    ListenError,
    PassedSockets,
    Where,
    bind_tcp,
    listen_sentence,
    listen_unix,
    ours,
    own_socket,
    places_of,
)

_ENDING_SECONDS, _ENDING_PAUSE = 2.0, 0.02


class WorkerSockets:
    """The open sockets: for each worker, by the address in the settings. Raises ListenError where one cannot be had."""

    def __init__(self, settings: Settings, passed: PassedSockets, workers: int) -> None:
        self._by_worker: list[dict[str, tuple[socket.socket, ...]]] = [{} for _ in range(workers)]
        self._files: list[tuple[Path, int]] = []
        self._closing = ExitStack()
        own = own_socket(settings, os.geteuid(), places_of(settings, passed))
        try:
            for listener in (*settings.listeners, *([own] if own else [])):
                endpoint = listener.endpoint
                if taken := passed.take(listener):
                    self._share(str(endpoint), taken)
                elif isinstance(endpoint, UnixAddress):
                    self._share(str(endpoint), [self._unix(endpoint)])
                elif isinstance(endpoint, TcpAddress):
                    self._spread(endpoint)
        except BaseException:
            self.close()
            raise

    def of(self, index: int) -> Mapping[str, tuple[int, ...]]:
        """Return the descriptors of one worker's sockets, by address."""
        return {
            address: tuple(sock.fileno() for sock in sockets) for address, sockets in self._by_worker[index].items()
        }

    def own(self, index: int) -> Sequence[socket.socket]:
        """Return the sockets that one worker alone takes clients from."""
        others = [mine for number, mine in enumerate(self._by_worker) if number != index]
        shared = {sock for mine in others for sockets in mine.values() for sock in sockets}
        return [sock for sockets in self._by_worker[index].values() for sock in sockets if sock not in shared]

    def close(self) -> None:
        """Let nobody in any more, once no worker has them either; a second time does nothing."""
        self._closing.close()
        for path, inode in self._files:
            # A relay that was started meanwhile has its own socket under this name.
            if path.exists() and path.stat().st_ino == inode:
                path.unlink()
        self._files.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _share(self, address: str, sockets: Sequence[socket.socket]) -> None:
        for sock in sockets:
            self._closing.callback(sock.close)
        for mine in self._by_worker:
            mine[address] = tuple(sockets)

    def _unix(self, endpoint: UnixAddress) -> socket.socket:
        try:
            sock = listen_unix(endpoint.path, ANYBODY)
        except OSError as error:
            raise ListenError(f"{endpoint}: {listen_sentence(error)}") from error
        self._files.append((endpoint.path, endpoint.path.stat().st_ino))
        return sock

    def _spread(self, endpoint: TcpAddress) -> None:
        try:
            found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, named in ours(found):
                where = _free(family, named)
                for mine in self._by_worker:
                    sock = bind_tcp(family, where, is_shared=True)
                    self._closing.callback(sock.close)
                    sock.listen(BACKLOG)
                    mine[str(endpoint)] = (*mine.get(str(endpoint), ()), sock)
        except OSError as error:
            raise ListenError(f"{endpoint}: {listen_sentence(error)}") from error


def _free(family: int, where: Where) -> Where:
    """Return an address that nobody has, with the port that the system chose for 0. Raises OSError where one does.

    The kernel lets whoever asks for it share an address with other programs of the same user: so it is first asked for
    alone. One that is in use is asked for again for a moment: where the supervisor before us was killed, the kernel
    ends its workers, which takes some milliseconds.
    """
    last = time.monotonic() + _ENDING_SECONDS
    while True:
        try:
            with bind_tcp(family, where) as sock:
                sock.listen(1)
                return cast("Where", sock.getsockname())
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= last:
                raise
        time.sleep(_ENDING_PAUSE)
