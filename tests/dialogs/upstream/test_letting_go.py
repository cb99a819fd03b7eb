"""A message that could not be handed over is let go at once: a large one holds a file as long as anybody has it."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from relay.directory.model import Meaning
from relay.mail.content import Content
from relay.store.db.errors import StoreError
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Progress
from tests.dialogs.upstream.upstream_kit import FAST, SILENCE, Drop, scripted, server_at, transfer_to, until
from tests.peers.rows import each_row
from tests.peers.system import free_port

pytestmark = pytest.mark.timeout(60)
_NAMES = ["temporary", "permanent", "garbage", "drop"]


class LargeBody:
    """A body that is not in memory."""

    size = 8
    is_ascii = True

    async def gate(self) -> None:
        """Let it go on: who hands a message over has it in hand until the end, and so has what they ask for."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"hello.\r\n"


@contextmanager
def no_collection() -> Iterator[None]:
    """Nobody looks for cycles: what is let go must go by itself."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@each_row("key", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."])
@each_row("answer", [b"450 4.0.0 no\r\n", b"550 5.0.0 no\r\n", b"garbage\r\n", Drop()], ids=_NAMES)
async def test_whatever_a_server_does_the_message_is_let_go(key: str, answer: Any) -> None:
    async with scripted(answers={key: answer}) as server:
        await check(server.port)


class LostBody(LargeBody):
    """A body whose file cannot be read to its end."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"x" * 200_000 + b"\r\n"
        raise StoreError("the temporary file of a message ends at 200002 of 400000 octets")


async def test_a_body_that_cannot_be_read_is_no_message_and_may_be_sent_again() -> None:
    async with scripted() as server:
        way_out = Upstream("relay.example", FAST)
        progress = Progress()
        outcome = await way_out.deliver(
            transfer_to(server_at(server.port), content=Content(b"Subject: large\r\n", LostBody())), progress
        )
        await way_out.aclose()
        assert outcome.failure is not None
        assert (outcome.failure.meaning, outcome.failure.reply.code) == (Meaning.TEMPORARY, 451)
        assert "ends at 200002 of 400000 octets" in outcome.failure.detail
        assert not progress.final_dot_sent
        assert way_out.connections() == {}
    assert not any(message.endswith(b"\r\n.\r\n") for message in server.messages)


async def test_a_server_that_is_not_there_keeps_nothing() -> None:
    await check(free_port())


async def test_a_hand_over_that_is_cancelled_keeps_nothing() -> None:
    for key in ("greeting", "MAIL", "DATA"):
        async with scripted(answers={key: SILENCE}) as server:
            way_out = Upstream("relay.example", FAST)
            with no_collection():
                body = LargeBody()
                transfer = transfer_to(server_at(server.port), content=Content(b"Subject: large\r\n", body))
                progress, kept = Progress(before_final_dot=body.gate), weakref.ref(body)
                task = asyncio.create_task(way_out.deliver(transfer, progress))
                await until(partial(bool, server.lines))
                task.cancel()
                await asyncio.wait({task})
                del task, transfer, progress, body
                assert kept() is None, key
            await way_out.aclose()


async def check(port: int) -> None:
    way_out = Upstream("relay.example", FAST)
    try:
        with no_collection():
            body = LargeBody()
            transfer = transfer_to(server_at(port), content=Content(b"Subject: large\r\n", body))
            kept = weakref.ref(body)
            outcome = await way_out.deliver(transfer, Progress(before_final_dot=body.gate))
            assert not outcome.accepted
            del transfer, body
            assert kept() is None
    finally:
        await way_out.aclose()
