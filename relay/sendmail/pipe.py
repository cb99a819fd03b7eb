"""-bs: whoever calls speaks SMTP on standard input and output, and the service answers."""

import contextlib
import os
import socket
from threading import Thread

_CHUNK = 64 * 1024


def pass_through(connection: socket.socket, source: int, sink: int) -> None:
    """Copy both ways until the service closes or nobody reads its answers; `source` and `sink` are file descriptors.

    The end of the input closes our half only, so that the last replies still come.
    """
    connection.settimeout(None)
    # A daemon: when the service has closed, nothing waits for input that may never come.
    Thread(target=_send, args=(source, connection), daemon=True).start()
    with contextlib.suppress(OSError):
        while chunk := connection.recv(_CHUNK):
            _write(sink, chunk)


def _send(source: int, connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := os.read(source, _CHUNK):
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)


def _write(sink: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(sink, rest) :]
