"""A message whose body is larger than may stay in memory: it takes little of the memory that all share."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.listener import replies
from relay.listener.receiving import Memory, MessageReceiver
from relay.listener.session_limits import Flow, LeastRate, SessionLimits
from relay.mail.content import ContentRefused, InMemory
from relay.store.db.errors import StoreError, StoreFull
from relay.store.queue.spool import Spool
from tests.dialogs.listener.listener_kit import MAIL, RCPT, SECONDS, door
from tests.peers.told import capture_logs

MIB = 1024 * 1024
LINES = (b"x" * 70 + b"\r\n") * 1000


class Failing:
    """Keeps nothing."""

    held = 0

    def __init__(self, error: StoreError) -> None:
        self.error = error

    def keeps(self, _octets: int) -> bool:
        return False

    def add(self, _chunk: bytes) -> None:
        raise self.error

    def so_far(self) -> None:
        """Nothing."""

    def finish(self) -> tuple[bytes, ...]:
        raise self.error


def receiver(memory: Memory, new_body: Callable[[], object]) -> MessageReceiver:
    return MessageReceiver(100 * MIB, memory, Flow(LeastRate(), 0.0), lambda: 0.0, new_body)  # type: ignore[arg-type]


async def test_what_goes_to_disk_is_no_memory_any_more(tmp_path: Path) -> None:
    memory = Memory(MIB)
    with receiver(memory, Spool(tmp_path, 200_000).new_body) as message:
        message.feed(b"Subject: x\r\n\r\n")
        for _ in range(100):
            message.feed(LINES)
            await message.settle()
            assert memory.free > MIB // 4
        assert (await message.finish()).size == len(b"Subject: x\r\n\r\n" + LINES * 100)
    assert memory.free == MIB


@pytest.mark.parametrize(
    ("error", "reply"),
    [(StoreFull("the disk is full"), replies.NO_ROOM), (StoreError("it is broken"), replies.INTERNAL_FAULT)],
)
@pytest.mark.parametrize("size", [1, 1000], ids=["at the end", "on the way"])
async def test_what_cannot_be_kept_is_refused_at_the_end_of_the_message(
    error: StoreError, reply: object, size: int
) -> None:
    memory = Memory(MIB)
    with receiver(memory, lambda: Failing(error)) as message, capture_logs() as lines:
        message.feed(b"\r\n" + LINES[: 72 * size])
        await message.settle()
        message.feed(b"more\r\n" * size)
        with pytest.raises(ContentRefused) as refused:
            await message.finish()
        assert memory.free == MIB
    assert refused.value.reply == reply
    assert [line["what"] for line in lines] == [str(error)]


@pytest.mark.parametrize("verb", ["DATA", "BDAT"])
async def test_a_session_goes_on_after_a_message_that_could_not_be_kept(verb: str) -> None:
    body = b"\r\n" + LINES * 10
    async with door(new_body=lambda: Failing(StoreFull("full"))) as relay, relay.client() as client:
        await client.begin(MAIL, RCPT)
        if verb == "DATA":
            assert (await client.ask(b"DATA\r\n"))[:3] == "354"
            assert await client.ask(body, b".\r\n") == str(replies.NO_ROOM)
        else:
            assert await client.ask(b"BDAT %d LAST\r\n" % len(body), body) == str(replies.NO_ROOM)
        assert await client.ask(b"NOOP\r\n") == str(replies.OK)


class Slow(InMemory):
    """A disk that has too much to do."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.gate = threading.Event(), threading.Event()

    def keeps(self, _octets: int) -> bool:
        return False

    def add(self, chunk: bytes) -> None:
        self.begun.set()
        assert self.gate.wait(SECONDS)
        super().add(chunk)


@pytest.mark.parametrize("size", [100, 10_000], ids=["at the end", "on the way"])
async def test_nobody_waits_for_a_disk_that_another_waits_for(size: int) -> None:
    slow, text = Slow(), b"\r\n.\r\n" + (LINES * 10)[: 72 * size]  # a dot: it is not taken at a look
    async with door(new_body=lambda: slow) as relay, relay.client() as client, relay.client() as other:
        await other.begin()
        await client.begin(MAIL, RCPT, b"DATA\r\n")
        await client.send(text.replace(b"\r\n.", b"\r\n.."), b".\r\n")
        assert await asyncio.to_thread(slow.begun.wait, SECONDS)
        assert await other.ask(b"NOOP\r\n") == str(replies.OK)
        slow.gate.set()
        assert (await client.reply())[:3] == "250"
        (handed,) = relay.acceptance.messages
        assert handed.content == text


async def test_a_client_that_leaves_while_the_disk_is_slow_is_gone_when_it_has_written(tmp_path: Path) -> None:
    slow = Slow()
    async with door(new_body=lambda: slow) as relay:
        async with relay.client() as client:
            await client.begin(MAIL, RCPT, b"DATA\r\n")
            await client.send(b"\r\n" + LINES * 10)
            assert await asyncio.to_thread(slow.begun.wait, SECONDS)
        slow.gate.set()
        await relay.all_left()
        assert not relay.acceptance.messages


async def test_a_large_message_arrives_whole_where_there_is_little_memory(tmp_path: Path) -> None:
    body = LINES * 100
    session_limits = SessionLimits(memory=2 * MIB)
    async with (
        door(new_body=Spool(tmp_path, 1000).new_body, session_limits=session_limits) as relay,
        relay.client() as client,
    ):
        await client.begin(MAIL, RCPT, b"DATA\r\n")
        assert (await client.ask(b"Subject: x\r\n\r\n", body, b".\r\n"))[:3] == "250"
        (handed,) = relay.acceptance.messages
        assert handed.content == b"Subject: x\r\n\r\n" + body
