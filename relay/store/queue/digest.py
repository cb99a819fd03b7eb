"""The digest of a stored message: what is read to be sent must be what came, octet for octet.

It is of the content and of who it is from and for. Damage of a disk or of a file shows, not somebody's intent: whoever
may write to the store can write another digest.
"""

from collections.abc import Iterable
from hashlib import blake2b

from relay.mail.content import Content
from relay.mail.envelope import Envelope

_OCTETS = 16


class ContentHash:
    """Takes a content as it is written or read, in pieces: the header block first."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=_OCTETS)
        self._header = 0

    def add(self, octets: bytes, *, is_header: bool) -> None:
        """The next piece."""
        self._hash.update(octets)
        if is_header:
            self._header += len(octets)

    def digest(self, id_: str, envelope: Envelope) -> bytes:
        """Return the digest of the message that has this content."""
        facts = [id_, str(envelope.sender or ""), *(str(one.address) for one in envelope.recipients)]
        whole = blake2b(self._hash.digest(), digest_size=_OCTETS)
        whole.update("\0".join([str(self._header), *facts]).encode("utf-8", "surrogatepass"))
        return whole.digest()


def digest_of(id_: str, envelope: Envelope, content: Content) -> bytes:
    """Return the digest of a message that is about to be stored."""
    found = ContentHash()
    found.add(content.header, is_header=True)
    add_all(found, content.body)
    return found.digest(id_, envelope)


def add_all(found: ContentHash, chunks: Iterable[bytes]) -> None:
    """Add the chunks of a body."""
    for chunk in chunks:
        found.add(chunk, is_header=False)
