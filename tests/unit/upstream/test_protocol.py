"""Reading replies. Invariant: it makes no difference how they are cut into reads, nor whether they are read at once."""

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import pytest
from aiosmtplib.errors import SMTPResponseException, SMTPServerDisconnected
from hypothesis import given
from hypothesis import strategies as st

from relay.upstream.outcome import Phase
from relay.upstream.protocol import EarlyAnswer, Link, OutOfStep, RawReply

LINES = [
    b"250 2.1.0 fine\r\n",
    b"250 \r\n",
    b"250\r\n",
    b"250 bare\n",
    b"250-two\r\n250 lines\r\n",
    b"250-two\r\n251 codes\r\n",
    b"550 5.1.1 no\r\n",
    b"450 4.2.0 later\r\n",
    b"354 go on\r\n",
    b"421 4.3.2 bye\r\n",
    b"199 odd\r\n",
    b"999 odd\r\n",
    b"noise\r\n",
    b"250 " + b"x" * 8100 + b"\r\n",
    b"250 " + b"x" * 9000 + b"\r\n",
    b"\r\n",
]
GROUP = (Phase.MAIL, Phase.RCPT, Phase.RCPT, Phase.DATA)


class Transport:
    """A transport that only remembers."""

    def __init__(self) -> None:
        self.written = b""
        self.is_gone = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_gone

    def abort(self) -> None:
        self.is_gone = True

    def set_write_buffer_limits(self, **_: int) -> None:
        """Nothing waits here."""


@dataclass
class Waiter:
    phase: Phase = Phase.MAIL


def connected() -> Link:
    link = Link()
    link.connection_made(cast("asyncio.Transport", Transport()))
    link.data_received(b"220 hello\r\n")
    return link


async def heard(reads: list[bytes], number: int) -> dict[str, Any]:
    """What a link makes of what it reads behind so many commands."""
    link, waiter = connected(), Waiter()
    future = link.send(b"x\r\n" * number, 60, number, GROUP[:number], waiter)
    for each in reads:
        link.data_received(each)
    error = type(future.exception()) if future.done() and future.exception() else None
    replies = [(code, text.strip()) for code, text in link.replies]
    left_over = b"" if error else bytes(link._buffer + link._unasked) if future.done() else b"?"
    link.abort()
    link.connection_lost(None)
    return {
        "done": future.done(),
        "error": error,
        "replies": replies,
        "phase": waiter.phase,
        "more": bool(left_over.strip()),
    }


@given(
    lines=st.lists(st.sampled_from(LINES), max_size=6),
    cuts=st.lists(st.integers(min_value=0, max_value=200), max_size=6),
    number=st.integers(min_value=1, max_value=4),
)
def test_it_makes_no_difference_how_replies_are_cut(lines: list[bytes], cuts: list[int], number: int) -> None:
    data = b"".join(lines)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    reads = [data[start:end] for start, end in pairwise(places)]

    async def compare() -> None:
        at_once = await heard([data] if data else [], number)
        assert await heard(reads, number) == at_once
        assert await heard([data[place : place + 1] for place in range(len(data))], number) == at_once

    asyncio.run(compare())


@pytest.mark.parametrize(
    ("data", "number", "replies"),
    [
        (b"250 a\r\n550 b\r\n354 c\r\n", 3, [(b"250", b"a"), (b"550", b"b"), (b"354", b"c")]),
        (b"250 a\r\n421 b\r\n354 c\r\n", 3, [(b"250", b"a"), (b"421", b"b")]),
        (b"250 a\r\n354 b\r\n250 c\r\n", 3, [(b"250", b"a"), (b"354", b"b")]),
        (b"250 a\r\n999 b\r\n250 c\r\n", 3, [(b"250", b"a"), (b"999", b"b")]),
        (b"354 a\r\n", 2, [(b"354", b"a")]),
        (b"421 a\r\n", 1, [(b"421", b"a")]),
    ],
)
async def test_no_more_is_waited_for_than_is_worth_it(data: bytes, number: int, replies: list[RawReply]) -> None:
    link = connected()
    future = link.send(b"x\r\n" * number, 60, number)
    link.data_received(data)
    assert future.done()
    assert link.replies == replies


async def test_what_is_said_unasked_ends_the_step() -> None:
    link = connected()
    link.data_received(b"\r\n")
    link.check_open()
    link.data_received(b"250 what?\r\n")
    assert not link.is_in_step
    assert link.left_over == "250 what?"
    with pytest.raises(OutOfStep):
        link.send(b"NOOP\r\n", 60)


async def test_a_421_said_unasked_is_the_answer_to_what_is_not_sent() -> None:
    link = connected()
    link.data_received(b"421 4.4.2 idle too long\r\n")
    await link.send(b"NOOP\r\n", 60)
    assert link.replies == [(b"421", b"4.4.2 idle too long")]
    assert link.left_over == ""


async def test_an_answer_before_the_end_is_early() -> None:
    link = connected()
    link.expect()
    link.check_quiet()
    link.data_received(b"552 5.3.4 too much\r\n")
    with pytest.raises(EarlyAnswer):
        link.check_quiet()


async def test_nothing_is_sent_where_nobody_listens() -> None:
    link = Link()
    for act in (lambda: link.send(b"x\r\n", 60), lambda: link.write(b"x"), link.expect, link.check_open):
        with pytest.raises(SMTPServerDisconnected):
            act()
    assert not link.is_in_step


async def test_a_reply_that_never_ends_is_none() -> None:
    link = connected()
    future = link.send(b"x\r\n", 60)
    for _ in range(50):
        link.data_received(b"250-" + b"x" * 1000 + b"\r\n")
    assert isinstance(future.exception(), SMTPResponseException)


async def test_one_timer_serves_all_replies() -> None:
    link = connected()
    for patience in (5, 60, 600):
        future = link.send(b"x\r\n", patience)
        timer = link._timer
        link.data_received(b"250 ok\r\n")
        await future
        assert link._timer is timer


@pytest.mark.parametrize("is_cut", [False, True])
async def test_what_goes_on_leaves_with_the_last_reply_and_the_answer_to_it_ends_the_wait(*, is_cut: bool) -> None:
    link = connected()
    transport = cast("Any", link._transport)

    def go_on() -> bool:
        link.follow(b"all of it\r\n.\r\n", 60)
        return True

    future = link.send(b"MAIL\r\nDATA\r\n", 60, 2, GROUP[:2], Waiter(), go_on)
    for each in [b"250 a\r\n", b"354 b\r\n"] if is_cut else [b"250 a\r\n354 b\r\n"]:
        assert not transport.written.endswith(b".\r\n")
        link.data_received(each)
    assert transport.written.endswith(b".\r\n")
    assert not future.done()
    link.data_received(b"250 taken\r\n")
    await future
    assert link.replies == [(b"250", b"taken")]
    link.abort()
    link.connection_lost(None)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_nothing_goes_on_where_nobody_waits_or_a_reply_is_read_in_parts(*, is_cancelled: bool) -> None:
    link = connected()
    asked: list[bool] = []

    def go_on() -> bool:
        asked.append(True)
        return False

    future = link.send(b"MAIL\r\nDATA\r\n", 60, 2, GROUP[:2], Waiter(), go_on)
    if is_cancelled:
        future.cancel()
        link.data_received(b"250 a\r\n354 b\r\n")
    else:
        link.data_received(b"250 a\r\n354 ")
        link.data_received(b"b\r\n")
        await future
        assert [code for code, _ in link.replies] == [b"250", b"354"]
    assert not asked
    link.abort()
    link.connection_lost(None)
