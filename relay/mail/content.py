"""A message's content as it came over SMTP, made canonical: CRLF line ends, no bare CR, LF or NUL anywhere.

SECURITY: this is where SMTP smuggling and hidden header fields end (DESIGN "Bytes"). Whatever leaves as `Content` is
read alike by a parser that knows only CRLF and by one that takes LF too. A fault is told at the end, so that the
listener reads the whole message before it answers. All scanning is done per piece at C speed.
A body is chunks in memory, or in the hands of whoever keeps large bodies elsewhere.
"""

import re
from collections.abc import Callable, Iterator
from io import IncrementalNewlineDecoder
from typing import NamedTuple, Protocol, TypeAlias

from relay.mail.reply import Reply

LONGEST_LINE = 1024 * 1024
LARGEST_HEADER = 1024 * 1024
# Pieces of 64 to 256 KiB: bytes fed one by one cost no memory, and the upstream writes large chunks. They are smaller
# than the longest line, so that only a line that spans pieces can be too long.
_PIECE = 64 * 1024
_LARGEST_PIECE = 4 * _PIECE
# Lines are counted in so many octets, in which every header block ends; behind them a line is named by where it is.
_COUNTED = LARGEST_HEADER
_BARE_CR = re.compile(rb"\r(?!\n)")
_BARE_LF = re.compile(rb"(?<!\r)\n")


class LargeBody(Protocol):
    """A body outside of memory. Its chunks never split a CRLF, and each reading begins anew."""

    @property
    def size(self) -> int:
        """How many octets it has."""

    @property
    def is_ascii(self) -> bool:
        """Whether all of them are ASCII."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield its chunks."""


class GrowingBody(LargeBody, Protocol):
    """A body to which more may still be added at its end."""

    def since(self, start: int) -> Iterator[bytes]:
        """Yield the chunks of what there is from an octet on, which is a border of chunks."""


Body: TypeAlias = tuple[bytes, ...] | LargeBody


class Gathering(Protocol):
    """Takes one body, chunk by chunk. It may raise what whoever keeps it elsewhere raises."""

    @property
    def held(self) -> int:
        """How many octets it holds in memory now."""

    def keeps(self, octets: int) -> bool:
        """Whether so many more octets stay in memory, so that nothing is written for them."""

    def add(self, chunk: bytes) -> None:
        """Take the next chunk, which does not end between CR and LF."""

    def so_far(self) -> GrowingBody | None:
        """Return what `finish` will, once that is outside of memory; it grows until then."""

    def finish(self) -> Body:
        """Return the body. Called once, at its end."""


NewBody: TypeAlias = Callable[[], Gathering]
"""Begins a body."""


class InMemory:
    """A body of which all stays in memory."""

    def __init__(self) -> None:
        self.held = 0
        self._chunks: list[bytes] = []

    def keeps(self, _octets: int) -> bool:
        """Everything stays."""
        return True

    def add(self, chunk: bytes) -> None:
        """Take the next chunk."""
        self._chunks.append(chunk)
        self.held += len(chunk)

    def so_far(self) -> None:
        """Nothing is outside of memory."""

    def finish(self) -> Body:
        """Return the body."""
        return tuple(self._chunks)


class ContentRefused(Exception):
    """The message cannot be accepted. `reply` says so to the client, and names the line where there is one."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class Content(NamedTuple):
    """A message in canonical form: every line ends with CRLF.

    `header` is the header block without the empty line behind it; `body` is what follows that line, in chunks that
    never split a CRLF.
    """

    header: bytes
    body: Body = ()

    @property
    def size(self) -> int:
        """Octets of the whole message, the empty line included (RFC 1870 section 3)."""
        header, body = self
        return len(header) + 2 + (sum(map(len, body)) if isinstance(body, tuple) else body.size)

    @property
    def is_ascii(self) -> bool:
        """Whether the message can pass a server without 8BITMIME (RFC 6152)."""
        header, body = self
        return header.isascii() and (all(map(bytes.isascii, body)) if isinstance(body, tuple) else body.is_ascii)

    def chunks(self) -> Iterator[bytes]:
        """Yield the whole message: header block with the empty line, then the body."""
        yield self.header + b"\r\n"
        yield from self.body


class ContentReader:
    """Takes message bytes as they arrive (dot-stuffing undone) and returns canonical Content at the end.

    A message whose line ends are all bare LF is read as if they were CRLF; one CRLF at its very end does not count,
    because curl sends LF lines and then CRLF.CRLF. A bare LF in the body becomes CRLF. A last line without an end gets
    one, and a header block without the empty line behind it gets that. What `body` raises where it can keep no more
    comes out of `feed` and `finish`, and is the end.
    """

    def __init__(self, body: Gathering | None = None) -> None:
        self._pending: bytes | bytearray = b""  # a copy only of what comes in small pieces
        self._head = bytearray()
        self._is_in_head = True
        self._body = body or InMemory()
        self._octets = 0  # as they came
        self._lines = 0  # that have ended, while they are counted
        self._open_line = 0  # octets since the last line end
        self._has_crlf = False  # other than at the very end
        self._ends_with_crlf = False
        self._first_bare_lf = 0  # the number of its line; 0: none
        self._refusal: ContentRefused | None = None

    @property
    def held(self) -> int:
        """How many octets of the message are in memory."""
        return len(self._pending) + len(self._head) + self._body.held

    @property
    def header(self) -> bytes | None:
        """The header block, as `finish` returns it; None before it is complete, and of a message that is refused."""
        return None if self._is_in_head or self._refusal is not None else bytes(self._head)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes. A fault of theirs is raised by `finish`: the client can send on to its final dot."""
        for start in range(0, len(chunk), _LARGEST_PIECE):
            if self._refusal is not None:
                return
            piece = chunk[start : start + _LARGEST_PIECE]
            if self._pending:
                self._pending = bytearray(self._pending) if isinstance(self._pending, bytes) else self._pending
                self._pending += piece
                if len(self._pending) < _PIECE:
                    continue
                piece = bytes(self._pending)
            elif len(piece) < _PIECE:
                self._pending = piece
                continue
            # A CR at the end waits: its LF may be under way.
            self._pending = b"\r" if piece.endswith(b"\r") else b""
            self._drain(piece.removesuffix(b"\r"))

    def finish(self) -> Content:
        """Return the message. Raises ContentRefused: 554 5.6.0 naming the line, or 552 5.3.4 for the header block."""
        if not self._octets and self._refusal is None:
            piece = bytes(self._pending)
            end = _header_end(piece)
            if end >= 0:  # a small message, all of it at hand and in canonical form, as nearly all are
                if len(piece) > end + 2:
                    self._body.add(piece[end + 2 :])
                return Content(piece[:end], self._body.finish())
        self._drain(bytes(self._pending), is_last=True)
        if self._refusal is not None:
            raise self._refusal
        if self._open_line:
            self._store(b"\r\n")
        self._check_header_line_ends()
        return Content(bytes(self._head), self._body.finish())

    def _drain(self, piece: bytes, *, is_last: bool = False) -> None:
        """Take a piece that ends where a line may be cut. After a refusal nothing of the message is kept any more."""
        try:
            self._take(piece, is_last=is_last)
        except ContentRefused as refusal:
            self._refusal = refusal
            self._pending, self._head, self._body = b"", bytearray(), InMemory()

    def _take(self, piece: bytes, *, is_last: bool) -> None:
        if not piece:
            return
        if b"\0" in piece:
            raise self._line_refusal(piece, piece.index(b"\0"), "holds a NUL")
        ends = _line_ends(piece)
        if "\r" in ends:
            raise self._line_refusal(piece, _position(_BARE_CR, piece), "holds a bare CR; lines end with CRLF")
        self._measure_lines(piece)
        canonical = piece
        if "\n" in ends:
            if not self._first_bare_lf and self._is_counting:
                self._first_bare_lf = self._line_at(piece, _position(_BARE_LF, piece))
            canonical = piece.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if self._is_counting and not is_last:  # behind the last piece no line is named
            self._lines += piece.count(b"\n")
        self._octets += len(piece)
        self._has_crlf = self._has_crlf or self._ends_with_crlf or 0 <= piece.find(b"\r\n") < len(piece) - 2
        self._ends_with_crlf = piece.endswith(b"\r\n")
        self._store(canonical)

    def _measure_lines(self, piece: bytes) -> None:
        first = piece.find(b"\n")
        end = len(piece) if first < 0 else first - (piece[:first].endswith(b"\r"))
        if self._open_line + end > LONGEST_LINE:
            raise self._line_refusal(piece, 0, f"is longer than {LONGEST_LINE} octets")
        self._open_line = self._open_line + end if first < 0 else len(piece) - piece.rfind(b"\n") - 1

    def _store(self, piece: bytes) -> None:
        if not self._is_in_head:
            self._body.add(piece)
            return
        # The end is an empty line: the first of all, or the one behind another line, which may have come before.
        before = bytes(self._head[-3:])
        text = before + piece if before else piece
        end = 0 if text.startswith(b"\r\n") and not before else text.find(b"\r\n\r\n") + 2
        is_found = end != 1
        octets = len(self._head) - len(before) + (end if is_found else len(text))
        if octets > LARGEST_HEADER:
            raise ContentRefused(Reply(552, "5.3.4", f"the header block is over {LARGEST_HEADER} octets"))
        if not is_found:
            self._head += piece
            return
        self._is_in_head = False
        self._head[len(self._head) - len(before) :] = text[:end]
        if len(text) > end + 2:
            self._body.add(text[end + 2 :])

    def _check_header_line_ends(self) -> None:
        """Refuse a header block that a parser for CRLF and one for LF would end at different lines."""
        header_lines = self._head.count(b"\n") + 1
        if self._has_crlf and 0 < self._first_bare_lf <= header_lines:
            line = f"line {self._first_bare_lf} of the header block ends with a bare LF, and other lines with CRLF"
            raise ContentRefused(Reply(554, "5.6.0", line))

    @property
    def _is_counting(self) -> bool:
        return self._octets <= _COUNTED

    def _line_refusal(self, piece: bytes, position: int, what: str) -> ContentRefused:
        octet = self._octets + position + 1
        line = f"line {self._line_at(piece, position)}" if self._is_counting else f"the line at octet {octet}"
        return ContentRefused(Reply(554, "5.6.0", f"{line} {what}"))

    def _line_at(self, piece: bytes, position: int) -> int:
        return self._lines + piece.count(b"\n", 0, position) + 1


def read_at_once(octets: bytes) -> Content | None:
    """Return a small message that is whole and canonical, as nearly all are; None where a ContentReader has to look."""
    end = _header_end(octets)
    if end < 0:
        return None
    body = octets[end + 2 :]
    return Content(octets[:end], (body,) if body else ())


def _header_end(piece: bytes) -> int:
    """Return where the empty line behind the header block of a whole message begins; -1 where that takes a closer look.

    There is nothing to refuse in the message and nothing to mend, and no line of it is too long.
    """
    if piece[-2:] != b"\r\n" or b"\0" in piece or len(piece) > _PIECE:
        return -1
    decoder = IncrementalNewlineDecoder(None, translate=False)
    decoder.decode(piece.decode("latin-1"), final=True)
    if decoder.newlines != "\r\n":
        return -1
    if piece[:2] == b"\r\n":
        return 0
    end = piece.find(b"\r\n\r\n")
    return end + 2 if end >= 0 else -1


def _line_ends(piece: bytes) -> tuple[str, ...]:
    """Return which of CRLF, bare CR and bare LF end lines in a piece; a CR at its end is a bare one.

    The standard library's reader of text finds that out in one pass, in half the time of counting each of them.
    """
    decoder = IncrementalNewlineDecoder(None, translate=False)
    decoder.decode(piece.decode("latin-1"), final=True)
    found = decoder.newlines
    return found if isinstance(found, tuple) else (found,) if found else ()


def _position(pattern: re.Pattern[bytes], piece: bytes) -> int:
    """Where the pattern is found in a piece that is known to hold it."""
    match = pattern.search(piece)
    assert match is not None
    return match.start()
