"""A message that goes by BDAT (RFC 3030): where the directory wants it and the server offers it, as safe as by DATA."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from relay.directory.model import Meaning
from relay.mail.content import Content
from relay.store.db.errors import StoreError
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Progress, Transfer
from tests.dialogs.upstream.upstream_kit import (
    CONTENT,
    FAST,
    RAW,
    Drop,
    Line,
    ScriptedServer,
    scripted,
    server_at,
    stand_silent,
    transfer_to,
)

pytestmark = pytest.mark.timeout(60)
GOOD = b"250 2.0.0 ok\r\n"
OFFERED = ("CHUNKING", "8BITMIME")
WHOLE = b"".join(CONTENT.chunks())
BDAT = f"BDAT {len(WHOLE)} LAST"
LARGE = Content(b"Subject: large\r\n", tuple(b"x" * 998 + b"\r\n" + b"." * 64_000 + b"\r\n" for _ in range(40)))


@pytest.fixture(autouse=True, params=[(), ("PIPELINING",)], ids=["one-by-one", "in-groups"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedServer, "always", request.param)


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    way_out = Upstream("relay.example", FAST)
    yield way_out
    await way_out.aclose()


def to(server: ScriptedServer, *recipients: str, chunking: bool = True, **changes: Any) -> Transfer:
    return transfer_to(server_at(server.port, chunking=chunking), *recipients, **changes)


async def deliver(
    server: ScriptedServer, *recipients: str, progress: Progress | None = None, **changes: Any
) -> Outcome:
    async with upstream() as way_out:
        return await way_out.deliver(to(server, *recipients, **changes), progress)


def failure_of(outcome: Outcome) -> Failure:
    assert outcome.failure is not None
    return outcome.failure


async def test_a_message_goes_as_one_chunk_and_as_it_is() -> None:
    async with scripted(offers=OFFERED) as server, upstream() as way_out:
        for _ in range(2):
            outcome = await way_out.deliver(to(server))
            assert str(outcome.accepted) == "250 2.0.0 taken as 4711"
        assert server.messages == [WHOLE] * 2
        assert server.verbs == [["EHLO", *["MAIL", "RCPT", "BDAT"] * 2]]
        assert server.commands[0][3] == BDAT


@pytest.mark.parametrize(("chunking", "offers"), [(False, OFFERED), (True, ("8BITMIME",))])
async def test_by_data_where_it_is_not_wanted_or_not_offered(chunking: bool, offers: tuple[str, ...]) -> None:
    async with scripted(offers=offers) as server:
        assert (await deliver(server, chunking=chunking)).accepted
        assert server.verbs[0] == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
        assert server.messages == [RAW]


async def test_the_smallest_and_a_large_message_arrive_octet_by_octet() -> None:
    async with scripted(offers=OFFERED) as server, upstream() as way_out:
        for content in (Content(b""), LARGE):
            assert (await way_out.deliver(to(server, content=content))).accepted
        assert server.messages == [b"\r\n", b"".join(LARGE.chunks())]


@pytest.mark.parametrize("all_or_none", [False, True])
async def test_without_all_recipients(all_or_none: bool) -> None:
    async with scripted(offers=OFFERED, answers={"RCPT": [b"550 5.1.1 no\r\n", GOOD]}) as server:
        outcome = await deliver(server, "a@there.example", "b@there.example", all_or_none=all_or_none)
        assert bool(outcome.accepted) is not all_or_none
        assert set(outcome.refused) == {0}
        assert ("DATA" in server.verbs[0]) is not all_or_none, "its 354 proves the refusal"
        assert "BDAT" not in server.verbs[0]


async def test_nothing_goes_to_nobody() -> None:
    answers = {"RCPT": [b"550 5.1.1 no\r\n", GOOD]}
    async with scripted(offers=OFFERED, answers=answers) as server, upstream() as way_out:
        assert (await way_out.deliver(to(server))).failure
        assert (await way_out.deliver(to(server))).accepted
        between = "EHLO" if server.always else "RSET"  # in a group it proves the refusal, and does what RSET does
        assert server.verbs == [["EHLO", "MAIL", "RCPT", between, "MAIL", "RCPT", "BDAT"]]


ANSWERS = [
    (b"554 5.6.0 no\r\n", "554 5.6.0 no", Meaning.REFUSED),
    (b"421 4.3.0 closing\r\n", "421 4.3.0 closing", Meaning.TEMPORARY),
    (b"354 go on\r\n", "451 4.5.0", Meaning.UNKNOWN),
    (stand_silent, "451 4.4.2", Meaning.UNKNOWN),
    (Drop(), "451 4.4.2", Meaning.UNKNOWN),
]


@pytest.mark.parametrize(("answer", "reply", "meaning"), ANSWERS, ids=range(len(ANSWERS)))
async def test_an_answer_to_the_whole_chunk(answer: Any, reply: str, meaning: Meaning) -> None:
    progress = Progress()
    async with scripted(offers=OFFERED, answers={".": answer}) as server:
        failure = failure_of(await deliver(server, progress=progress))
        assert (failure.phase, failure.meaning) == (Phase.FINAL, meaning)
        assert str(failure.reply).startswith(reply)
        assert progress.final_dot_sent


class Broken(Content):
    """Its size is not what its chunks make."""

    @property
    def size(self) -> int:
        return len(b"".join(self.chunks())) + 5


class Lost:
    """A body whose file cannot be read to its end."""

    size, is_ascii = 400_000, True

    def __iter__(self) -> Any:
        yield b"x" * 200_000 + b"\r\n"
        raise StoreError("the temporary file of a message ends at 200002 of 400000 octets")


async def stop_here() -> None:
    """A gate that lets nothing through."""
    raise RuntimeError("the disk is full")


@pytest.mark.parametrize(
    ("content", "gate"),
    [
        (CONTENT, stop_here),
        (LARGE, stop_here),
        (Broken(b"Subject: short\r\n", (b"x" * 300_000 + b"\r\n",)), None),
        (Content(b"Subject: no end\r\n", (b"no end",)), None),
        (Content(b"Subject: lost\r\n", Lost()), None),
    ],
    ids=["gate", "gate-large", "size", "no-end", "lost"],
)
async def test_a_chunk_that_must_not_end_does_not_end(content: Content, gate: Any) -> None:
    progress = Progress(before_final_dot=gate)
    async with scripted(offers=OFFERED) as server, upstream() as way_out:
        failure = failure_of(await way_out.deliver(to(server, content=content), progress))
        assert failure.phase is Phase.CONTENT
        assert not progress.final_dot_sent
        async with asyncio.timeout(20):
            await asyncio.wait(server.tasks)
        assert server.messages == []
        assert way_out.connections() == {}


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
async def test_all_but_its_end_has_left_when_the_gate_is_passed(content: Content) -> None:
    received, whole = bytearray(), b"".join(content.chunks())
    seen: list[tuple[int, Phase, bool]] = []

    async def take(line: Line) -> None:
        while len(received) < len(whole):
            received.extend(await line.reader.read(65536))
        await line.send(GOOD)

    async def gate() -> None:
        while len(received) < len(whole) - 2:  # noqa: ASYNC110  the socket's buffer knows no event
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)  # for more, if more came
        seen.append((len(received), progress.phase, progress.final_dot_sent))

    progress = Progress(before_final_dot=gate)
    async with scripted(offers=OFFERED, answers={"BDAT": take}) as server:
        assert (await deliver(server, content=content, progress=progress)).accepted
        assert seen == [(len(whole) - 2, Phase.CONTENT, False)]
        assert received == whole
    assert (progress.phase, progress.final_dot_sent) == (Phase.FINAL, True)


@pytest.mark.parametrize(
    ("said", "reply", "meaning"),
    [
        (b"552 5.3.4 too much\r\n", "552 5.3.4 too much", Meaning.REFUSED),
        (b"250 2.0.0 enough\r\n", "451 4.5.0", Meaning.TEMPORARY),
        (b"", "451 4.4.2", Meaning.TEMPORARY),
    ],
)
async def test_an_answer_or_a_loss_in_the_middle_ends_it(said: bytes, reply: str, meaning: Meaning) -> None:
    """b"" closes the connection."""

    async def answer_early(line: Line) -> None:
        await line.reader.readexactly(100_000)
        await line.send(said)
        if not said:
            line.drop()
        with_end = bytearray()
        while piece := await line.reader.read(1_000_000):
            with_end += piece
        assert len(with_end) < LARGE.size - 100_000

    progress = Progress()
    async with scripted(offers=OFFERED, answers={"BDAT": answer_early}) as server:
        failure = failure_of(await deliver(server, content=LARGE, progress=progress))
        assert (failure.phase, failure.meaning) == (Phase.CONTENT, meaning)
        assert str(failure.reply).startswith(reply)
        assert not progress.final_dot_sent


async def test_cancelling_in_the_middle_leaves_no_whole_chunk() -> None:
    came, rest = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def hang(line: Line) -> None:
        await line.reader.readexactly(100_000)
        came.set()
        await asyncio.sleep(0.02)  # so that it is cancelled in the middle
        left = 0
        while piece := await line.reader.read(1_000_000):
            left += len(piece)
        rest.set_result(left)

    async with scripted(offers=OFFERED, answers={"BDAT": hang}) as server:
        way_out = Upstream("relay.example", replace(FAST, chunk=5))
        task = asyncio.create_task(way_out.deliver(to(server, content=LARGE)))
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert way_out.connections() == {}
        await asyncio.wait({server.tasks[0]}, timeout=1)
        assert not rest.done() or rest.result() < LARGE.size - 100_000
        await way_out.aclose()
