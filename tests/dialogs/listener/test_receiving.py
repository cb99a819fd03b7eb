"""One message on its way in, and the memory that all of them share."""

import pytest

from relay.listener import replies
from relay.listener.receiving import Memory, MessageReceiver
from relay.listener.session_limits import Flow, LeastRate, SessionLimits
from relay.mail.content import ContentRefused
from tests.dialogs.listener.listener_kit import MAIL, RCPT, TEXT, RawClient, door, within

SLOW = b"RCPT TO:<slow@customer.example>\r\n"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def receiver(memory: Memory, largest: int = 1000, clock: Clock | None = None) -> MessageReceiver:
    return MessageReceiver(largest, memory, Flow(LeastRate(), 0.0), clock or Clock())


async def test_what_a_message_takes_is_free_again_after_it() -> None:
    memory = Memory(100)
    with receiver(memory) as message:
        message.feed(TEXT)
        assert memory.free == 100 - len(TEXT)
        assert b"".join((await message.finish()).chunks()) == TEXT
        assert memory.free == 100 - len(TEXT)
    assert memory.free == 100


@pytest.mark.parametrize(
    ("largest", "free", "refusal"), [(10, 100, replies.TOO_LARGE), (1000, len(TEXT), replies.NO_MEMORY)]
)
async def test_a_message_that_does_not_fit_keeps_nothing(largest: int, free: int, refusal: object) -> None:
    memory = Memory(free)
    with receiver(memory, largest) as message:
        message.feed(TEXT)
        message.feed(TEXT)
        assert message.refusal == refusal
        assert memory.free == free
        message.feed(TEXT)  # to the end of the message
        assert memory.free == free
        with pytest.raises(ContentRefused) as refused:
            await message.finish()
    assert refused.value.reply == refusal
    assert memory.free == free


def test_a_message_that_comes_too_slowly_ends_at_once() -> None:
    memory, clock = Memory(100), Clock()
    with receiver(memory, clock=clock) as message:
        message.feed(TEXT)
        clock.now = 61.0
        with pytest.raises(ContentRefused, match=r"421 4\.4\.2"):
            message.feed(b"x")
    assert memory.free == 100


@pytest.mark.parametrize("verb", ["DATA", "BDAT"])
async def test_messages_that_wait_for_their_answer_hold_their_memory(verb: str) -> None:
    async with door(session_limits=SessionLimits(memory=2 * len(TEXT) - 1)) as relay:
        parts = [b"DATA\r\n" + TEXT + b".\r\n"] if verb == "DATA" else [b"BDAT %d LAST\r\n" % len(TEXT) + TEXT]
        async with relay.client() as first, relay.client() as second:
            await first.begin(MAIL, SLOW)
            await first.send(*parts)
            await within(relay.acceptance.begun.wait())
            await second.begin(MAIL, RCPT)
            assert (await _answer(second, verb, parts)).startswith("452 4.3.1 Too many messages are under way")
            relay.acceptance.gate.set()
            assert (await _last(first, verb))[:3] == "250"
            assert [(await second.ask(part))[:3] for part in (b"RSET\r\n", MAIL, RCPT)] == ["250"] * 3
            assert (await _answer(second, verb, parts))[:3] == "250"


@pytest.mark.parametrize("verb", [b"DATA\r\n", b"BDAT 1000\r\n"])
async def test_a_client_that_leaves_gives_its_memory_back(verb: bytes) -> None:
    async with door(session_limits=SessionLimits(memory=len(TEXT))) as relay:
        async with relay.client() as client:
            await client.begin(MAIL, RCPT)
            await client.send(verb, TEXT[:-1])
        await relay.all_left()
        async with relay.client() as client:
            await client.begin(MAIL, RCPT, b"DATA\r\n")
            assert (await client.ask(TEXT, b".\r\n"))[:3] == "250"


async def _answer(client: RawClient, verb: str, parts: list[bytes]) -> str:
    await client.send(*parts)
    return await _last(client, verb)


async def _last(client: RawClient, verb: str) -> str:
    if verb == "DATA":
        assert (await client.reply())[:3] == "354"
    return await client.reply()
