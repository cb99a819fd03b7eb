"""The line between the supervisor and one worker: messages as lines of JSON over a pair of sockets.

What is told here is a hint, and may be lost: where certainty matters, the store has it.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, Self

# A line may hold all counters of a worker.
_LONGEST = 16 * 1024 * 1024
# Of what the other side has not read yet: more is not told to who reads no more.
_MOST_UNREAD = 4 * 1024 * 1024

Message = dict[str, Any]


class IpcConnection:
    """One end of a line. `IpcConnection.over` makes one, and `close` ends it; the other end sees that."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Self:
        """Return a line over a connected socket, which belongs to it from now on."""
        sock.setblocking(False)
        return cls(*await asyncio.open_connection(sock=sock, limit=_LONGEST))

    def tell(self, message: Message) -> None:
        """Send a message; waits for nothing. What the other side has no room for is lost."""
        if self._writer.is_closing() or self._writer.transport.get_write_buffer_size() > _MOST_UNREAD:
            return
        self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    async def messages(self) -> AsyncIterator[Message]:
        """Yield what the other side tells, until it ends."""
        try:
            while line := await self._reader.readline():
                yield json.loads(line)
        except (ConnectionError, ValueError):  # the other end died in the middle of a line, or of one without an end
            return

    def close(self) -> None:
        """End the line."""
        self._writer.close()
