"""What goes over the wire, as bytes: paths, parameters and the dot-stuffed message. Pure.

SECURITY: whatever leaves here holds no CR or LF but as line ends. Addresses are clean by their type, and content is
canonical by its own; stuffing looks across the borders of chunks, so that no line can pass for the final dot.
"""

from collections.abc import AsyncIterator, Iterable, Iterator

from relay.mail.address import Address

FINAL_DOT = b".\r\n"
"""The line that ends a message. It means that only behind a line's end, where `pieces` leaves off."""

CHUNK_END = b"\r\n"
"""The last octets of a message that goes by BDAT: until they leave, the server has no whole chunk."""

_PIECE = 128 * 1024
_CRLF = b"\r\n"


def path(address: Address | None) -> bytes:
    """Return an address in angle brackets, as it was written (RFC 5321 section 4.1.2); `<>` for None."""
    return f"<{address or ''}>".encode()


def pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Return the message as DATA wants it (RFC 5321 section 4.5.2), up to where FINAL_DOT goes.

    Pieces are of some 64 to 256 KiB, so that one write sends a small message whole and a large one is never copied
    as a whole. There is at least one, if an empty one. A last line without its end gets one.
    """
    gathered: list[bytes] = []
    size = 0
    tail = _CRLF
    for part in _parts(chunks):
        gathered.append(_stuffed(part, tail))
        size += len(part)
        tail = (tail + part[-2:])[-2:]
        if size >= _PIECE // 2:
            yield b"".join(gathered)
            gathered, size = [], 0
    if tail != _CRLF:
        gathered.append(_CRLF)
    yield b"".join(gathered)


async def pieces_as_they_come(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a message as `pieces` does, each chunk for itself."""
    tail = _CRLF
    async for part in chunks:
        yield _stuffed(part, tail)
        tail = (tail + part[-2:])[-2:]
    if tail != _CRLF:
        yield _CRLF


def chunk(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Return the message as the one chunk of a BDAT (RFC 3030 section 2), command first, up to where CHUNK_END goes.

    Pieces are as those of `pieces`. Raises ValueError where the message has not `size` octets or its last line no end:
    the server would take the wrong octets for the message.
    """
    gathered = [b"BDAT %d LAST%s" % (size, _CRLF)]
    total, held, tail = 0, 0, b""
    for part in _parts(chunks):
        total += len(part)
        held += len(part)
        joined = tail + part
        gathered.append(joined[:-2])
        tail = joined[-2:]
        if total > size:
            break
        if held >= _PIECE // 2:
            yield b"".join(gathered)
            gathered, held = [], 0
    if total != size or tail != CHUNK_END:
        raise ValueError(f"a message of {size} octets has {total}, or ends within a line")
    yield b"".join(gathered)


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for each in chunks:
        if len(each) <= _PIECE:
            yield each
        else:
            yield from (each[start : start + _PIECE] for start in range(0, len(each), _PIECE))


def _stuffed(part: bytes, tail: bytes) -> bytes:
    """Return a part with every dot at the start of a line doubled. `tail` is the two bytes before it.

    Encoded files, the larger part of most mail, have no dot at all, and to look for one octet takes a hundredth of the
    time for three; to replace takes twice that, also where there is nothing to replace.
    """
    if b"." not in part:
        return part
    stuffed = part.replace(b"\r\n.", b"\r\n..") if b"\r\n." in part else part
    if tail == _CRLF and part.startswith(b"."):
        return b"." + stuffed
    if tail.endswith(b"\r") and part.startswith(b"\n."):
        return b"\n." + stuffed[1:]
    return stuffed
