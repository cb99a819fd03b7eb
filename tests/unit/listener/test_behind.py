"""A body on its way to the disk: it comes whole, and nothing of it is written by whoever only adds."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from relay.listener.receiving import SpoolWriter
from relay.mail.content import InMemory
from relay.store.queue.spool import Spool, SpooledBody

KIB = 1024


class Watched:
    """A body that keeps so much in memory, and notes what it would write."""

    def __init__(self, in_memory: int) -> None:
        self.held = 0
        self.chunks: list[bytes] = []
        self.writes = 0
        self._in_memory = in_memory

    def keeps(self, octets: int) -> bool:
        return self.held + octets <= self._in_memory

    def add(self, chunk: bytes) -> None:
        if not self.keeps(len(chunk)):
            self._in_memory = -1
            self.writes += 1
        else:
            self.held += len(chunk)
        self.chunks.append(chunk)

    def so_far(self) -> None:
        """Nothing is on disk."""

    def finish(self) -> tuple[bytes, ...]:
        return tuple(self.chunks)


@given(st.lists(st.binary(max_size=9) | st.none(), max_size=20), st.integers(0, 30))
def test_whatever_is_handed_on_when_the_body_is_what_came(steps: list[bytes | None], in_memory: int) -> None:
    """None: a thread takes what waits."""
    watched = Watched(in_memory)
    behind, came, writes = SpoolWriter(watched), b"", 0
    for step in steps:
        if step is None:
            behind.hand_on()
            writes = watched.writes
        else:
            behind.add(step)
            came += step
        assert watched.writes == writes, "who adds has written"
        assert behind.held == watched.held + len(came) - len(b"".join(watched.chunks))
    assert b"".join(behind.finish()) == came


def test_what_stays_in_memory_never_waits() -> None:
    behind = SpoolWriter(InMemory())
    for _ in range(20):
        behind.add(b"x" * 100 * KIB)
    assert not behind.is_due
    assert behind.keeps(10**9)


def test_a_large_body_is_handed_on_in_blocks(tmp_path: Path) -> None:
    behind = SpoolWriter(Spool(tmp_path, 100 * KIB).new_body())
    due = []
    for _ in range(8):
        behind.add(b"x" * 100 * KIB)
        due.append(behind.is_due)
        if due[-1]:
            behind.hand_on()
    # The first stays; what follows goes when 512 KiB wait.
    assert due == [False] * 6 + [True, False]
    assert not behind.keeps(1)
    assert behind.held <= 300 * KIB
    body = behind.finish()
    assert isinstance(body, SpooledBody)
    assert body.size == 800 * KIB
