"""Run as a program: `python -m tests.bench.sink PORT FILE [PEM]`, an upstream that takes logins and notes all mail.

smtp-sink knows no TLS and answers AUTH with 250. This one announces AUTH PLAIN, and STARTTLS where it has a PEM file
with certificate and key. It writes a line about each message (`tests.bench.letter.Arrived`) before it answers the final
dot. It believes every password, and takes mail from whoever does not log in.
"""

import asyncio
import os
import re
import signal
import ssl
import sys
from base64 import b64decode
from pathlib import Path
from typing import cast

import uvloop

from tests.bench.letter import Arrived, digest
from tests.peers.system import LOOPBACK

_GREETING = b"220 sink.test ESMTP\r\n"
_EHLO = (
    b"250-sink.test\r\n%b250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-SIZE 0\r\n250 AUTH PLAIN\r\n"
)
_STARTTLS = b"250-STARTTLS\r\n"
_END = b"\r\n.\r\n"
_FROM = re.compile(rb"^From:[^\r]*?([^\s<>]+@[^\s<>]+)", re.IGNORECASE | re.MULTILINE)


class _Session(asyncio.Protocol):
    """One connection. `_data` is what came and is not read yet; in a message it begins with the whole header."""

    def __init__(self, out: int, context: ssl.SSLContext | None) -> None:
        self._out = out
        self._context = context
        self._transport: asyncio.Transport
        self._data = b""
        self._login = self._sender = self._recipient = self._from = ""
        self._in_message = self._in_body = False
        self._digest = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._transport.write(_GREETING)

    def data_received(self, data: bytes) -> None:
        self._data += data
        replies = []
        while True:
            if self._in_message:
                reply = self._read_message()
            else:
                line, end, rest = self._data.partition(b"\r\n")
                if not end:
                    break
                self._data = rest
                reply = self._answer(line)
            if not reply:
                break
            replies.append(reply)
        self._transport.write(b"".join(replies))

    def _answer(self, line: bytes) -> bytes:
        """Return the reply to a command; b"" where none is due."""
        match line[:4].upper():
            case b"MAIL":
                self._sender, self._recipient = _path(line), ""
            case b"RCPT":
                self._recipient = self._recipient or _path(line)
            case b"DATA":
                self._in_message, self._in_body, self._digest = True, False, 0
                return b"354 Go on\r\n"
            case b"EHLO":
                return _EHLO % (_STARTTLS if self._context else b"")
            case b"AUTH":
                self._login = b64decode(line.split()[2]).decode().split("\0")[1]
                return b"235 2.7.0 Hello\r\n"
            case b"STAR" if self._context:
                self._transport.write(b"220 2.0.0 Go on\r\n")
                self._data = b""
                asyncio.get_running_loop().create_task(self._secure(self._context))
                return b""
            case b"QUIT":
                self._transport.write(b"221 2.0.0 Bye\r\n")
                self._transport.close()
                return b""
        return b"250 2.0.0 Ok\r\n"

    async def _secure(self, context: ssl.SSLContext) -> None:
        self._context = None
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(self._transport, self, context, server_side=True)
        except OSError:  # the other side gave it up
            return
        assert transport is not None
        self._transport = transport

    def _read_message(self) -> bytes:
        """Take what has come of a message; return the reply where it has ended, else b""."""
        if not self._in_body:
            header, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return b""
            address = _FROM.search(header)
            self._from = address[1].decode() if address else ""
            self._in_body = True
            self._data = b"\r\n" + rest  # the end of the message may follow the empty line at once
        end = self._data.find(_END)
        if end < 0:
            self._note(self._data[: 1 - len(_END)])
            self._data = self._data[1 - len(_END) :]
            return b""
        self._note(self._data[: end + 2])
        self._data = self._data[end + len(_END) :]
        self._in_message = False
        arrived = Arrived(self._login, self._sender, self._recipient, self._from, self._digest)
        os.write(self._out, arrived.line().encode())
        return b"250 2.0.0 Ok: noted\r\n"

    def _note(self, part: bytes) -> None:
        self._digest = digest(part, self._digest)


def _path(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode()


async def _serve(port: int, file: Path, pem: str) -> None:
    context = None
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: _Session(out, context), LOOPBACK, port, backlog=1000)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1]), Path(sys.argv[2]), "".join(sys.argv[3:])))
