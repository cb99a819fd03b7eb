"""A client that writes exactly the bytes that a test wants on the wire, and waits for exactly one reply at a time."""

import socket
from base64 import b64encode
from types import TracebackType
from typing import Self

from tests.peers.clients import Endpoint

_TIMEOUT = 20.0


class RawClient:
    """An SMTP connection without a will of its own. A reply is its lines joined by LF, "" once the server hung up."""

    def __init__(self, endpoint: Endpoint, timeout: float | None = None) -> None:
        timeout = _TIMEOUT if timeout is None else timeout
        if endpoint.path:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(timeout)
            self._socket.connect(str(endpoint.path))
        else:
            source = (endpoint.source, 0) if endpoint.source else None
            self._socket = socket.create_connection((endpoint.host, endpoint.port), timeout, source)
        self._file = self._socket.makefile("rb")
        try:
            self.greeting = self.reply()
        except OSError:
            self.close()
            raise

    def send(self, data: bytes) -> None:
        """Write bytes and wait for nothing."""
        self._socket.sendall(data)

    def reply(self) -> str:
        """Read one reply, all its lines."""
        lines = []
        while line := self._file.readline():
            lines.append(line.decode(errors="replace").rstrip("\r\n"))
            if line[3:4] != b"-":
                break
        return "\n".join(lines)

    def say(self, line: str) -> str:
        """Send one command line and return its reply."""
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def envelope(self, sender: str, *recipients: str) -> list[str]:
        """EHLO, MAIL and RCPT; return the replies to MAIL and RCPT."""
        self.say("EHLO raw.test")
        return [self.say(f"MAIL FROM:<{sender}>"), *(self.say(f"RCPT TO:<{name}>") for name in recipients)]

    def log_in(self, name: str, password: str) -> str:
        """EHLO and AUTH PLAIN; return the last reply."""
        self.say("EHLO raw.test")
        return self.say("AUTH PLAIN " + b64encode(f"\0{name}\0{password}".encode()).decode())

    def submit(self, sender: str, recipient: str, content: bytes) -> str:
        """Send a whole message, content as given (dot-stuffing is the caller's); return the last reply."""
        for reply in self.envelope(sender, recipient):
            if not reply.startswith("250"):
                return reply
        self.say("DATA")
        self.send(content + b".\r\n")
        return self.reply()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
