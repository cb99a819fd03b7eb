"""The body of a message: chunks in memory, or in the hands of whoever keeps large bodies elsewhere. Pure."""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias


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
