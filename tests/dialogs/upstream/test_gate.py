"""The gate before the final dot: whoever waits for a delivery may do something of their own first, or stop it."""

import asyncio
import gc
import weakref
from dataclasses import replace

import pytest

from relay.directory.model import Meaning
from relay.mail.content import Content
from relay.upstream.outcome import Outcome, Phase
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Gate, Progress
from tests.dialogs.upstream.upstream_kit import (
    CONTENT,
    FAST,
    RAW,
    Line,
    ScriptedServer,
    read_message,
    scripted,
    server_at,
    transfer_to,
)

LARGE = Content(b"Subject: large\r\n", tuple(b"x" * 998 + b"\r\n" + b"." * 64_000 + b"\r\n" for _ in range(40)))
CONTENTS = [CONTENT, LARGE, Content(b"")]

pytestmark = pytest.mark.timeout(60)


class Received:
    """A server's DATA that can be looked at while the message comes in."""

    def __init__(self) -> None:
        self.raw = bytearray()
        self.ended = asyncio.Event()

    async def take(self, line: Line) -> None:
        await line.send(b"354 go on\r\n")
        while not self.raw.endswith(b"\r\n.\r\n"):
            piece = await line.reader.read(65536)
            if not piece:
                break
            self.raw += piece
        else:
            await line.send(b"250 2.0.0 taken\r\n")
        self.ended.set()

    async def until(self, length: int) -> None:
        while len(self.raw) < length:  # noqa: ASYNC110  the socket's buffer knows no event
            await asyncio.sleep(0)


async def deliver(server: ScriptedServer, progress: Progress, content: Content = CONTENT) -> Outcome:
    way_out = Upstream("relay.example", FAST)
    try:
        return await way_out.deliver(transfer_to(server_at(server.port), content=content), progress)
    finally:
        await way_out.aclose()


async def test_an_idle_connection_keeps_nothing_of_the_message_that_it_carried() -> None:
    """A gate is a function of the message: with it all of the message would stay for as long as nobody sends."""

    class Message:
        async def gate(self) -> None:
            """Let it go on."""

    message = Message()
    progress = Progress(before_final_dot=message.gate)
    async with scripted() as server:
        way_out = Upstream("relay.example", FAST)
        try:
            assert (await way_out.deliver(transfer_to(server_at(server.port)), progress)).accepted
            kept = weakref.ref(message)
            del message, progress
            gc.collect()
            assert kept() is None
        finally:
            await way_out.aclose()


@pytest.mark.parametrize("content", CONTENTS, ids=["small", "large", "empty"])
async def test_all_but_the_dot_has_left_when_the_gate_is_passed(content: Content) -> None:
    received, seen = Received(), []
    length = sum(map(len, content.chunks())) + sum(chunk.count(b"\r\n.") for chunk in content.chunks())

    async def gate() -> None:
        await received.until(length)
        seen.append((bytes(received.raw[-5:]), progress.phase, progress.final_dot_sent))

    progress = Progress(before_final_dot=gate)
    async with scripted(answers={"DATA": received.take}) as server:
        outcome = await deliver(server, progress, content)
        assert outcome.accepted
        assert [(before, dot) for _, before, dot in seen] == [(Phase.CONTENT, False)]
        assert not seen[0][0].endswith(b"\r\n.\r\n")
        assert (progress.phase, progress.final_dot_sent) == (Phase.FINAL, True)


async def test_what_arrives_is_the_same_with_a_gate() -> None:
    async def gate() -> None:
        return

    async with scripted() as server:
        assert (await deliver(server, Progress(before_final_dot=gate))).accepted
        assert (await deliver(server, Progress())).accepted
        assert server.messages == [RAW, RAW]


async def test_a_gate_that_is_set_while_the_message_is_on_its_way() -> None:
    passed, progress = [], Progress()

    async def gate() -> None:
        passed.append(progress.final_dot_sent)

    async def take(line: Line) -> None:
        await line.send(b"354 go on\r\n")
        await line.reader.readexactly(100_000)
        assert progress.phase is Phase.CONTENT
        progress.before_final_dot = gate
        await read_message(line.reader)
        await line.send(b"250 2.0.0 taken\r\n")

    async with scripted(answers={"DATA": take}) as server:
        assert (await deliver(server, progress, LARGE)).accepted
        assert passed == [False]


async def test_a_gate_that_is_set_after_the_dot_is_too_late() -> None:
    passed, progress = [], Progress()

    async def gate() -> None:
        passed.append(True)

    async def answer(line: Line) -> None:
        progress.before_final_dot = gate
        await line.send(b"250 2.0.0 taken\r\n")

    async with scripted(answers={".": answer}) as server:
        assert (await deliver(server, progress)).accepted
        assert passed == []


async def test_without_a_gate_nobody_gets_a_turn_between_the_look_at_it_and_the_dot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A turn of the loop is counted by a task that does nothing else; the look and the dot see the same count."""
    turns, seen = 0, []

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    class Watched(Progress):
        def __getattribute__(self, name: str) -> object:
            if name in {"before_final_dot", "note_final_dot"}:
                seen.append((name, turns))
            return super().__getattribute__(name)

    async with scripted() as server:
        counter = asyncio.create_task(count())
        progress = Watched()
        assert (await deliver(server, progress)).accepted
        counter.cancel()
        assert [name for name, _ in seen] == ["before_final_dot", "note_final_dot"]
        assert seen[0][1] == seen[1][1] > 0


@pytest.mark.parametrize("error", [RuntimeError("the disk is full"), TimeoutError("no answer"), ValueError("odd")])
@pytest.mark.parametrize("content", CONTENTS[:2], ids=["small", "large"])
async def test_a_gate_that_raises_ends_the_delivery_before_the_dot(error: Exception, content: Content) -> None:
    received = Received()

    async def gate() -> None:
        raise error

    progress = Progress(before_final_dot=gate)
    async with scripted(answers={"DATA": received.take}) as server:
        failure = (await deliver(server, progress, content)).failure
        assert failure is not None
        assert (failure.phase, failure.meaning, failure.from_server) == (Phase.CONTENT, Meaning.TEMPORARY, False)
        assert str(failure.reply).startswith("451 4.3.0")
        assert str(error) in failure.detail
        assert str(error) not in failure.reply.text
        assert not progress.final_dot_sent
        await received.ended.wait()
        assert not received.raw.endswith(b"\r\n.\r\n")


async def test_no_deadline_runs_in_the_gate() -> None:
    async def gate() -> None:
        await asyncio.sleep(2 * short.final)  # longer than any deadline

    short = replace(FAST, reply=0.7, chunk=0.7, final=0.7)
    progress = Progress(before_final_dot=gate)
    async with scripted() as server:
        way_out = Upstream("relay.example", short)
        assert (await way_out.deliver(transfer_to(server_at(server.port)), progress)).accepted
        await way_out.aclose()


async def test_the_deadline_of_the_answer_runs_after_the_gate() -> None:
    async def gate() -> None:
        return

    async with scripted(answers={".": b""}) as server:
        failure = (await deliver(server, Progress(before_final_dot=gate))).failure
        assert failure is not None
        assert (failure.phase, failure.meaning) == (Phase.FINAL, Meaning.UNKNOWN)


async def test_cancelling_in_the_gate_sends_no_dot() -> None:
    received, entered = Received(), asyncio.Event()

    async def gate() -> None:
        entered.set()
        await asyncio.Event().wait()

    progress = Progress(before_final_dot=gate)
    async with scripted(answers={"DATA": received.take}) as server:
        way_out = Upstream("relay.example", FAST)
        task = asyncio.create_task(way_out.deliver(transfer_to(server_at(server.port)), progress))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (progress.phase, progress.final_dot_sent) == (Phase.CONTENT, False)
        assert way_out.connections() == {}
        await received.ended.wait()
        assert not received.raw.endswith(b"\r\n.\r\n")
        await way_out.aclose()


@pytest.mark.parametrize(
    ("said", "reply"),
    [(b"421 4.3.1 disk full\r\n", "421 4.3.1 disk full"), (b"250 taken\r\n", "451 4.5.0"), (b"", "451")],
)
async def test_a_server_that_gives_up_while_the_gate_waits(said: bytes, reply: str) -> None:
    """b"" closes the connection. The dot is not sent, so the message is nobody's."""
    over = asyncio.Event()

    async def take(line: Line) -> None:
        await line.send(b"354 go on\r\n")
        await line.reader.readexactly(len(RAW) - 3)
        await line.send(said)
        if not said:
            line.drop()
        over.set()

    async def gate() -> None:
        await over.wait()
        await asyncio.sleep(0.05)  # for the answer's way through the loopback

    progress = Progress(before_final_dot=gate)
    async with scripted(answers={"DATA": take}) as server:
        failure = (await deliver(server, progress)).failure
        assert failure is not None
        assert failure.phase is Phase.CONTENT
        assert failure.meaning is not Meaning.UNKNOWN
        assert str(failure.reply).startswith(reply)
        assert not progress.final_dot_sent


async def test_every_delivery_passes_its_own_gate() -> None:
    """A connection is used again: the gate of the first message is not asked about the second."""
    passed: list[int] = []

    def gate_of(number: int) -> Gate:
        async def gate() -> None:
            passed.append(number)

        return gate

    async with scripted() as server:
        way_out = Upstream("relay.example", FAST)
        transfer = transfer_to(server_at(server.port))
        for number in (1, 2):
            assert (await way_out.deliver(transfer, Progress(before_final_dot=gate_of(number)))).accepted
        assert (await way_out.deliver(transfer)).accepted
        assert passed == [1, 2]
        assert len(server.lines) == 1
        await way_out.aclose()
