"""A message's content on disk, in pieces: written and read one by one, so that no size needs more memory than it has.

The pieces of one transaction are not held together anywhere: SQLite writes to its WAL what its cache does not hold.

What is read to be sent must be what came, octet for octet. So a message has a digest, of the content and of who it is
from and for. Damage of a disk or of a file shows, not somebody's intent: whoever may write to the store can write
another digest.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import chain, islice
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select

from relay.mail.content import Content, Gathering, NewBody
from relay.mail.envelope import Envelope
from relay.store.db.prepared import Prepared, Row
from relay.store.db.queue_tables import content as table
from relay.store.queue.messages import NoContent

LONGEST_PIECE = 64 * 1024
# Pieces that are read or written at once: at most 1 MiB.
_PAGE = 16
_PIECES = (
    select(table.c.is_header, table.c.piece)
    .where(table.c.message == bindparam("of_message"))
    .where(table.c.number >= bindparam("first"), table.c.number < bindparam("behind"))
    .order_by(table.c.number)
)
_INSERT = Prepared(insert(table), table.columns.keys())
_DELETE = Prepared(delete(table).where(table.c.message == bindparam("of_message")), ("of_message",))
_DIGEST_OCTETS = 16
# A message of fewer pieces is read together with others.
_FEW = 3
_FIRST_PIECES = (
    select(table.c.message, table.c.is_header, table.c.piece)
    .where(table.c.message.in_(bindparam("of_messages", expanding=True)), table.c.number < _FEW)
    .order_by(table.c.message, table.c.number)
)


class Piece(NamedTuple):
    """Some octets of the header block (without the empty line behind it), or of the body."""

    is_header: bool
    octets: bytes


def write_contents(connection: Connection, contents: Sequence[tuple[str, Content]]) -> None:
    """Write the content of messages, each with its id."""
    rows = chain.from_iterable(_rows(message, content) for message, content in contents)
    while page := list(islice(rows, _PAGE)):
        _INSERT.run(connection, page)


def _rows(message: str, content: Content) -> Iterable[Row]:
    if content.size > LONGEST_PIECE:
        return ((message, number, piece.is_header, piece.octets) for number, piece in enumerate(_pieces(content)))
    header, body = (message, 0, True, content.header), b"".join(content.body)
    return (header, (message, 1, False, body)) if body else (header,)


class ContentHash:
    """Takes a content as it is written or read, in pieces: the header block first."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=_DIGEST_OCTETS)
        self._header = 0

    def add(self, octets: bytes, *, is_header: bool) -> None:
        """The next piece."""
        self._hash.update(octets)
        if is_header:
            self._header += len(octets)

    def digest(self, id_: str, envelope: Envelope) -> bytes:
        """Return the digest of the message that has this content."""
        facts = [id_, str(envelope.sender or ""), *(str(one.address) for one in envelope.recipients)]
        whole = blake2b(self._hash.digest(), digest_size=_DIGEST_OCTETS)
        whole.update("\0".join([str(self._header), *facts]).encode("utf-8", "surrogatepass"))
        return whole.digest()


class ReadContent(NamedTuple):
    """A content as it was read, and what its digest comes from."""

    content: Content
    hash: ContentHash


def read_content(connection: Connection, message: str, body: Gathering) -> ReadContent:
    """Return a message's content, whose body is gathered in `body`. Raises NoContent, and what that raises."""
    header: list[bytes] = []
    found = ContentHash()
    number, is_all = 0, False
    while not is_all:
        page = read_page(connection, message, number)
        header += _gather(page, body, found)
        number += len(page)
        is_all = len(page) < _PAGE
    if not number:
        raise NoContent(message)
    return ReadContent(Content(b"".join(header), body.finish()), found)


def read_small(connection: Connection, messages: Sequence[str], new_body: NewBody) -> dict[str, ReadContent]:
    """Return the contents of some messages, where they are short and nothing is wrong with them."""
    pieces: dict[str, list[Piece]] = {}
    for message, *piece in connection.execute(_FIRST_PIECES, {"of_messages": messages}):
        pieces.setdefault(message, []).append(Piece(*piece))
    contents: dict[str, ReadContent] = {}
    for message, found in pieces.items():
        if len(found) < _FEW:
            with suppress(Exception):  # who reads this one by itself meets it, and nobody else
                body, octets = new_body(), ContentHash()
                header = _gather(found, body, octets)
                contents[message] = ReadContent(Content(b"".join(header), body.finish()), octets)
    return contents


def read_page(connection: Connection, message: str, number: int) -> list[Piece]:
    """Return some pieces, from piece `number` on; none behind the end."""
    window = {"of_message": message, "first": number, "behind": number + _PAGE}
    return [Piece(*row) for row in connection.execute(_PIECES, window)]


async def chunks_of(read: Callable[[int], Awaitable[Sequence[Piece]]]) -> AsyncIterator[bytes]:
    """Yield the whole message: header block, empty line, body. `read` gives the pieces from a number on."""
    number, is_in_header = 0, True
    while page := await read(number):
        for piece in page:
            if is_in_header and not piece.is_header:
                is_in_header = False
                yield b"\r\n"
            yield piece.octets
        number += len(page)
    if number and is_in_header:
        yield b"\r\n"


def delete_content(connection: Connection, messages: Sequence[str]) -> None:
    """Delete the content of messages, where they have any."""
    _DELETE.run(connection, [(message,) for message in messages])


def _gather(pieces: Sequence[Piece], body: Gathering, found: ContentHash) -> list[bytes]:
    """Add to a body what is of it, and return what is of the header."""
    for piece in pieces:
        found.add(piece.octets, is_header=piece.is_header)
        if not piece.is_header:
            body.add(piece.octets)
    return [piece.octets for piece in pieces if piece.is_header]


def _pieces(content: Content) -> Iterator[Piece]:
    """Yield the header block, even an empty one, and the body in pieces.

    A piece never ends between CR and LF, which Content promises of its chunks.
    """
    yield from (Piece(True, octets) for octets in _cut(content.header))
    for chunk in _joined(content.body):
        yield from (Piece(False, octets) for octets in _cut(chunk) if octets)


def _joined(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield small chunks together: a client may send line by line, and each piece is a row."""
    together: list[bytes] = []
    size = 0
    for chunk in chunks:
        if size + len(chunk) > LONGEST_PIECE:
            yield b"".join(together)
            together, size = [], 0
        together.append(chunk)
        size += len(chunk)
    yield b"".join(together)


def _cut(chunk: bytes) -> Iterator[bytes]:
    """Yield a chunk in pieces; an empty one as one empty piece."""
    start = 0
    while True:
        end = min(start + LONGEST_PIECE, len(chunk))
        if chunk[end - 1 : end + 1] == b"\r\n":
            end -= 1
        yield chunk[start:end]
        start = end
        if start >= len(chunk):
            return


def digest_of(id_: str, envelope: Envelope, content: Content) -> bytes:
    """Return the digest of a message that is about to be stored."""
    found = ContentHash()
    found.add(content.header, is_header=True)
    for chunk in content.body:
        found.add(chunk, is_header=False)
    return found.digest(id_, envelope)
