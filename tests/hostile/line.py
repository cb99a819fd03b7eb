"""A client on a plain socket that knows how many octets it has sent, also under TLS, and can leave in the middle."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Self

SECONDS = 30.0  # whoever waits longer has failed
_READ = 64 * 1024


class Left(Exception):
    """The client has sent as many octets as it was to send, and says nothing more."""


class Line:
    """One connection. `budget` is how many octets it sends, in plain or of TLS, before it raises Left."""

    def __init__(self, connection: socket.socket, budget: int | None = None) -> None:
        self.sent = 0
        self._socket = connection
        self._budget = budget
        self._heard = bytearray()
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    @classmethod
    async def connect(cls, port: int, budget: int | None = None, host: str = "127.0.0.1") -> Self:
        """Connect, and wait for nothing."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (host, port))
        except BaseException:
            connection.close()
            raise
        return cls(connection, budget)

    async def send(self, *parts: bytes) -> None:
        """Send octets in one write. A server that has left hears nothing, which is no fault. Raises Left."""
        octets = b"".join(parts)
        if self._tls is not None and octets:
            self._tls.write(octets)
            octets = self._outgoing.read()
        await self._put(octets)

    async def send_in(self, pieces: Iterable[bytes]) -> None:
        """Send octets in several writes, between which the server has its turn."""
        for piece in pieces:
            await self.send(piece)
            await asyncio.sleep(0)

    async def line(self) -> str:
        """Return the next line without its end; "" when the connection is gone."""
        while b"\n" not in self._heard:
            octets = await self._read()
            if not octets:
                return ""
            self._heard += octets
        end = self._heard.index(b"\n")
        line = self._heard[:end].decode().removesuffix("\r")
        del self._heard[: end + 1]
        return line

    async def reply(self) -> tuple[str, ...]:
        """Return the lines of the next reply; none when the connection is gone."""
        lines: list[str] = []
        while line := await self.line():
            lines.append(line)
            if line[3:4] != "-":
                break
        return tuple(lines)

    async def ask(self, *parts: bytes) -> str:
        """Send something and return the last line of the next reply; "" when the connection is gone."""
        await self.send(*parts)
        return (await self.reply() or ("",))[-1]

    async def rest(self) -> bytes:
        """Return everything that comes until the other side closes."""
        while octets := await self._read():
            self._heard += octets
        rest = bytes(self._heard)
        self._heard.clear()
        return rest

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Begin TLS. Raises ConnectionError where the server leaves instead, and Left."""
        assert not self._heard, "the server said something before TLS"
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._put(self._outgoing.read())
                if not (octets := await self._receive()):
                    raise ConnectionError("the server has left within the handshake") from None
                self._incoming.write(octets)
            else:
                await self._put(self._outgoing.read())
                self._tls = tls
                return

    def half_close(self) -> None:
        """Send no more, and listen."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the other side was faster

    def reset(self) -> None:
        """Be gone as a machine that crashed."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Be gone."""
        self._socket.close()

    async def _put(self, octets: bytes) -> None:
        most = len(octets) if self._budget is None else self._budget - self.sent
        self.sent += len(octets[:most])
        try:
            async with asyncio.timeout(SECONDS):
                await asyncio.get_running_loop().sock_sendall(self._socket, octets[:most])
        except ConnectionError:
            return  # the server has left: whoever reads will see it
        if most < len(octets):
            raise Left

    async def _read(self) -> bytes:
        while True:
            if self._tls is not None:
                try:
                    return self._tls.read(_READ)
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError:
                    return b""  # the end of TLS, in order or not
            octets = await self._receive()
            if self._tls is None or not octets:
                return octets
            self._incoming.write(octets)

    async def _receive(self) -> bytes:
        try:
            async with asyncio.timeout(SECONDS):
                return await asyncio.get_running_loop().sock_recv(self._socket, _READ)
        except ConnectionError:
            return b""


@asynccontextmanager
async def line_to(port: int, budget: int | None = None, host: str = "127.0.0.1") -> AsyncIterator[Line]:
    """A connection that is closed afterwards."""
    line = await Line.connect(port, budget, host)
    try:
        yield line
    finally:
        line.close()
