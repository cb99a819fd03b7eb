"""What `Acceptance` is told of a large message before it is whole."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.directory.client import Client
from relay.listener.receiving import CutThrough, Memory, MessageReceiver
from relay.listener.session_limits import Flow, LeastRate
from relay.mail.envelope import Envelope
from relay.mail.trace import Arrival
from relay.store.queue.spool import Spool
from tests.dialogs.listener.listener_kit import (
    MAIL,
    RCPT,
    SECONDS,
    FakeAcceptance,
    FakeSubmission,
    Handed,
    door,
    within,
)

MIB = 1024 * 1024
CLIENT, ENVELOPE = Client("127.0.0.1", "127.0.0.1", ("*",), is_trusted=True), Envelope(None, ())
ARRIVAL = Arrival("client", "127.0.0.1", "relay.test", "ESMTP", "id", datetime.now(UTC))
HEAD = b"Subject: x\r\n"
LINES = (b"x" * 70 + b"\r\n") * (MIB // 72)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Opened:
    """Makes submissions, and keeps what they were told."""

    def __init__(self) -> None:
        self.acceptance = FakeAcceptance()

    def __call__(self) -> FakeSubmission:
        return self.acceptance.open(CLIENT, ENVELOPE, ARRIVAL)

    @property
    def handed(self) -> list[Handed]:
        return self.acceptance.opened


def receiver(folder: Path, clock: Clock, in_memory: int = 100_000) -> MessageReceiver:
    new_body = Spool(folder, in_memory).new_body
    return MessageReceiver(100 * MIB, Memory(100 * MIB), Flow(LeastRate(), 0.0), clock, new_body)


async def feed(message: MessageReceiver, octets: bytes) -> None:
    message.feed(octets)
    await message.settle()


async def test_a_large_message_is_foreseen_with_its_header_and_what_is_there(tmp_path: Path) -> None:
    clock, opened = Clock(), Opened()
    message = receiver(tmp_path, clock)
    with CutThrough(message, opened, clock) as early:
        await feed(message, HEAD + b"\r\n" + LINES)
        (handed,) = opened.handed
        ((header, body),) = handed.foreseen
        assert header == HEAD
        assert LINES.startswith(b"".join(body.since(0)))
        before = body.size
        await feed(message, LINES)
        assert (len(opened.handed), handed.growths) == (1, 1)
        assert body.size > before
        content = await message.finish()
        assert content.body is body
        assert b"".join(body.since(0)) == LINES * 2
        submission = early.take()
        assert isinstance(submission, FakeSubmission)
        assert submission.handed is handed
    assert not handed.abandoned.is_set()


async def test_what_is_not_taken_is_abandoned(tmp_path: Path) -> None:
    clock, opened = Clock(), Opened()
    message = receiver(tmp_path, clock)
    with CutThrough(message, opened, clock):
        await feed(message, HEAD + b"\r\n" + LINES)
        assert not opened.handed[0].abandoned.is_set()
    assert opened.handed[0].abandoned.is_set()


@pytest.mark.parametrize(
    ("octets", "seconds", "in_memory"),
    [
        (HEAD + b"\r\n" + LINES, 1.5, 100_000),
        (HEAD + b"\r\n" + LINES, 0.1, 10 * MIB),
        (b"X: " + b"x" * 900_000, 0.1, 100_000),
        (HEAD + b"\r\n\0" + LINES, 0.1, 100_000),
    ],
    ids=["slow", "in memory", "in its header", "refused already"],
)
async def test_what_is_not_foreseen(tmp_path: Path, octets: bytes, seconds: float, in_memory: int) -> None:
    clock, opened = Clock(), Opened()
    message = receiver(tmp_path, clock, in_memory)
    with CutThrough(message, opened, clock) as early:
        clock.now = seconds
        await feed(message, octets)
        assert not opened.handed
        early.take()
    assert len(opened.handed) == 1
    assert not opened.handed[0].abandoned.is_set()


async def test_a_slow_client_is_slow_for_good(tmp_path: Path) -> None:
    """A message that would go ahead near its end has nothing left to gain."""
    clock, opened = Clock(), Opened()
    message = receiver(tmp_path, clock)
    with CutThrough(message, opened, clock):
        clock.now = 1.5
        for _ in range(5):
            await feed(message, LINES)
    assert not opened.handed


@pytest.mark.parametrize("end", [b".\r\n", b"a\rb\r\n.\r\n", b""], ids=["whole", "refused", "left"])
async def test_a_session_completes_or_abandons_what_it_foresaw(tmp_path: Path, end: bytes) -> None:
    async with door(new_body=Spool(tmp_path, 100_000).new_body) as relay:
        async with relay.client() as client:
            await client.begin(MAIL, RCPT, b"DATA\r\n")
            await client.send(HEAD + b"\r\n" + LINES)
            async with asyncio.timeout(SECONDS):
                while not (relay.acceptance.opened and relay.acceptance.opened[0].foreseen):  # noqa: ASYNC110  it knows no event
                    await asyncio.sleep(0.01)
            await client.send(end)
            if end:
                assert (await client.reply())[:3] == ("250" if end == b".\r\n" else "554")
        (handed,) = relay.acceptance.opened
        if end == b".\r\n":
            assert handed.content == HEAD + b"\r\n" + LINES
            assert not handed.abandoned.is_set()
        else:
            await within(handed.abandoned.wait())
            assert not relay.acceptance.messages
