"""Reads the message from standard input to its end: header block and body, in CRLF lines.

All of it is read before anybody is connected to: a job that writes for hours would else hold a session open until the
service hangs up. A large body goes through a temporary file that has no name.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import IO

from relay.mail.content import LARGEST_HEADER
from relay.sendmail.failure import NotSent

_PIECE = 64 * 1024
_MOST_IN_MEMORY = 1024 * 1024
# No provider takes half of it; a job that never stops writing shall not fill the disk.
_LARGEST_MESSAGE = 256 * 1024 * 1024
_CRLF = b"\r\n"
# With the white space that no field may have before its colon: the service refuses such a header block, and if it
# ended here instead, a Bcc below it would be read by everybody.
_FIELD_START = re.compile(rb"[!-9;-~]+[ \t]*:")
_MAILBOX_LINE = re.compile(rb">*From ")


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was written: `header` without the empty line behind it, `body` at its start, `body_size` octets.

    Every line ends with CRLF. No octet was changed but line ends.
    """

    header: bytes
    body: IO[bytes]
    body_size: int
    body_is_ascii: bool


def read_message(stream: IO[bytes], *, dot_ends: bool) -> Message:
    """Read a message with LF or CRLF at its line ends, up to the end of the stream or a line with only a dot.

    The header block ends at the empty line, or where a line is no field and continues none, as with every sendmail.
    Raises NotSent for one that is too large, and OSError.
    """
    lines = _lines(stream, dot_ends=dot_ends)
    header, first = _read_header(lines)
    body = _Body()
    body.write(first)
    for piece in lines:
        body.write(piece)
    return Message(header, body.finish(), body.size, body.is_ascii)


def _lines(stream: IO[bytes], *, dot_ends: bool) -> Iterator[bytes]:
    """Yield each line in pieces of at most 64 KiB, the last one with CRLF."""
    held = b""
    is_start = True
    while part := stream.readline(_PIECE):
        piece = held + part
        held = b""
        if is_start and dot_ends and piece.rstrip(_CRLF) == b"." and len(piece) <= len(".\r\n"):
            return
        is_start = piece.endswith(b"\n")
        if is_start:
            piece = piece[:-1].removesuffix(b"\r") + _CRLF
        elif piece.endswith(b"\r"):
            # Its LF may be the next octet.
            piece, held = piece[:-1], b"\r"
        yield piece
    if not is_start:
        yield _CRLF


def _read_header(lines: Iterator[bytes]) -> tuple[bytes, bytes]:
    """Return the header block, and what was read of the body to find its end."""
    header = bytearray()
    is_start = True
    for piece in lines:
        if is_start:
            if piece == _CRLF:
                return bytes(header), b""
            if not header and _MAILBOX_LINE.match(piece):
                continue
            is_continued = header and piece.startswith((b" ", b"\t"))
            if not is_continued and not _FIELD_START.match(piece):
                return bytes(header), piece
        header += piece
        is_start = piece.endswith(_CRLF)
        if len(header) > LARGEST_HEADER:
            raise NotSent(os.EX_DATAERR, f"the header block is over {LARGEST_HEADER} octets")
    return bytes(header), b""


class _Body:
    """Keeps the body: in memory, and from 1 MiB on in a temporary file."""

    def __init__(self) -> None:
        self.size = 0
        self.is_ascii = True
        self._file: IO[bytes] = BytesIO()

    def write(self, piece: bytes) -> None:
        """Add a piece. Raises NotSent when the message is too large, and OSError."""
        if self.size <= _MOST_IN_MEMORY < self.size + len(piece):
            self._move_to_disk()
        self.size += len(piece)
        if self.size > _LARGEST_MESSAGE:
            raise NotSent(os.EX_DATAERR, f"the message is over {_LARGEST_MESSAGE} octets")
        self.is_ascii = self.is_ascii and piece.isascii()
        self._file.write(piece)

    def finish(self) -> IO[bytes]:
        """Return the body, to be read from its start."""
        self._file.seek(0)
        return self._file

    def _move_to_disk(self) -> None:
        from tempfile import TemporaryFile

        memory = self.finish()
        self._file = TemporaryFile()  # noqa: SIM115  # it lives as long as the process
        self._file.write(memory.read())
