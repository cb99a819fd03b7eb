"""A head start: a message on its way before it is whole, and nobody's until somebody takes it on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.content import Content
from relay.upstream import cut_through
from relay.upstream.cut_through import Arriving, CutThroughTransaction
from relay.upstream.outcome import Outcome, Phase
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Progress, Transfer, pieces, pieces_as_they_come
from tests.dialogs.upstream.upstream_kit import FAST, Drop, ScriptedServer, scripted, server_at, transfer_to, until
from tests.peers.moments import a_while

HEADER = b"Subject: large\r\n"
LINE = b".%078d\r\n" % 1
PIPELINING = ("PIPELINING", "8BITMIME", "SIZE 10000000")

pytestmark = pytest.mark.timeout(60)


class Body:
    """A body that a test lets grow."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    @property
    def size(self) -> int:
        return len(b"".join(self.chunks))

    @property
    def is_ascii(self) -> bool:
        return b"".join(self.chunks).isascii()

    def __iter__(self) -> Iterator[bytes]:
        return self.since(0)

    def since(self, start: int) -> Iterator[bytes]:
        passed = 0
        for chunk in self.chunks:
            if passed >= start:
                yield chunk
            passed += len(chunk)


class Way:
    """An account with a connection that is idle, and a large message that has begun to come."""

    def __init__(self, server: ScriptedServer, **settings: object) -> None:
        self.server = server
        self.out = Upstream("relay.example", FAST)
        self.body = Body()
        self.arriving = Arriving(HEADER, self.body)
        self.whole = transfer_to(server_at(server.port, **settings), content=Content(HEADER, self.body))

    @property
    def begun(self) -> Transfer:
        """What a head start is given."""
        return replace(self.whole, content=Content(HEADER), arriving=self.arriving, all_or_none=True)

    async def warm_up(self) -> None:
        """Open a connection, by a message of its own."""
        small = replace(self.whole, content=Content(b"Subject: small\r\n"))
        assert (await self.out.deliver(small)).accepted
        self.server.messages.clear()

    def come(self, octets: bytes) -> None:
        self.body.chunks.append(octets)
        self.arriving.more()

    def start(self) -> CutThroughTransaction:
        sent_early = self.out.begin_cut_through(self.begun)
        assert sent_early is not None
        return sent_early

    async def finish(self, sent_early: CutThroughTransaction, progress: Progress | None = None) -> Outcome:
        return await self.out.deliver(replace(self.whole, cut_through=sent_early), progress)

    @property
    def raw(self) -> bytes:
        """The message as it stands on the wire."""
        return b"".join(pieces(Content(HEADER, self.body).chunks())) + b".\r\n"


@pytest.fixture(params=[(), PIPELINING], ids=["one by one", "pipelined"])
async def way(request: pytest.FixtureRequest) -> AsyncIterator[Way]:
    offers = {"offers": request.param} if request.param else {}
    async with scripted(**offers) as server:
        way = Way(server)
        await way.warm_up()
        yield way
        await way.out.aclose()


async def test_it_ends_when_somebody_takes_it_on(way: Way) -> None:
    way.come(LINE * 2000)
    sent_early = way.start()
    await until(lambda: "DATA" in way.server.verbs[0][-1:])
    way.come(LINE * 3000)
    way.come(b"no end")
    await a_while(0.05)
    assert not way.server.messages
    progress = Progress()
    outcome = await way.finish(sent_early, progress)
    assert outcome.accepted
    assert (progress.phase, progress.final_dot_sent) == (Phase.FINAL, True)
    assert way.server.messages == [way.raw]
    assert len(way.server.lines) == 1
    assert (await way.out.deliver(way.whole)).accepted  # the connection and its slot are free again
    assert len(way.server.lines) == 1


async def test_the_gate_of_who_takes_it_on_is_passed_before_the_dot(way: Way) -> None:
    opened = asyncio.Event()

    async def gate() -> None:
        assert not way.server.messages
        await opened.wait()

    way.come(LINE)
    progress = Progress(before_final_dot=gate)
    ending = asyncio.create_task(way.finish(way.start(), progress))
    await a_while(0.1)
    assert not (progress.final_dot_sent)
    assert not (way.server.messages)
    opened.set()
    assert (await ending).accepted
    assert way.server.messages == [way.raw]


async def test_who_takes_it_on_may_cancel_before_the_dot(way: Way) -> None:
    reached = asyncio.Event()

    async def gate() -> None:
        reached.set()
        await asyncio.Event().wait()

    way.come(LINE)
    progress = Progress(before_final_dot=gate)
    ending = asyncio.create_task(way.finish(way.start(), progress))
    await reached.wait()
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    await until(way.server.tasks[0].done)
    assert not way.server.messages
    assert not way.out.connections()


@pytest.mark.parametrize("is_under_way", [False, True])
async def test_what_is_abandoned_is_nobodys(way: Way, is_under_way: bool) -> None:
    way.come(LINE * 2000)
    sent_early = way.start()
    if is_under_way:
        await until(lambda: "DATA" in way.server.verbs[0][-1:])
    sent_early.abandon()
    await until(way.server.tasks[0].done)
    assert not way.server.messages
    assert not way.out.connections()
    assert (await way.finish(sent_early)).accepted  # who takes it on all the same hands it over anew
    assert way.server.messages == [way.raw]
    assert len(way.server.lines) == 2


async def test_abandoning_what_somebody_has_taken_on_does_nothing(way: Way) -> None:
    way.come(LINE)
    sent_early = way.start()
    ending = asyncio.create_task(way.finish(sent_early))
    await asyncio.sleep(0)
    sent_early.abandon()
    assert (await ending).accepted
    sent_early.abandon()
    assert way.server.messages == [way.raw]


async def test_a_client_that_pauses_for_long_keeps_no_connection(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut_through, "LONGEST_PAUSE", 0.1)
    way.come(LINE)
    sent_early = way.start()
    await until(way.server.tasks[0].done)
    way.come(LINE)
    assert (await way.finish(sent_early)).accepted
    assert way.server.messages == [way.raw]


@pytest.mark.parametrize(
    "changes",
    [{"smtputf8": True}, {"envid": "other"}, {"content": Content(b"Subject: another\r\n")}],
    ids=lambda changes: next(iter(changes)),
)
async def test_another_message_than_what_was_begun_goes_anew(way: Way, changes: dict[str, object]) -> None:
    way.come(LINE)
    sent_early = way.start()
    other = replace(way.whole, cut_through=sent_early, **changes)  # type: ignore[arg-type]
    assert (await way.out.deliver(other)).accepted
    assert len(way.server.messages) == 1
    assert len(way.server.lines) == 2


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
async def test_what_a_server_says_on_the_way_it_says_again_to_the_whole_message(way: Way, verb: str) -> None:
    way.server.answers = {verb: [b"451 4.3.0 not now\r\n", b"550 5.7.1 never\r\n"]}
    way.come(LINE)
    sent_early = way.start()
    await until(sent_early.task.done)
    outcome = await way.finish(sent_early)
    assert outcome.first_failure is not None
    assert outcome.first_failure.reply.code == 550
    assert not way.server.messages


async def test_a_server_that_goes_behind_the_dot_may_have_the_message(way: Way) -> None:
    way.server.answers = {".": Drop()}
    way.come(LINE)
    progress = Progress()
    outcome = await way.finish(way.start(), progress)
    assert outcome.failure is not None
    assert (outcome.failure.phase, outcome.failure.from_server) == (Phase.FINAL, False)
    assert way.server.messages == [way.raw], "it went twice"


async def test_a_refusal_at_the_dot_is_the_outcome(way: Way) -> None:
    way.server.answers = {".": b"554 5.6.0 spam\r\n"}
    way.come(LINE)
    outcome = await way.finish(way.start())
    assert outcome.failure is not None
    assert (outcome.failure.phase, outcome.failure.reply.code) == (Phase.FINAL, 554)
    assert len(way.server.messages) == 1


async def test_a_message_larger_than_its_server_takes_has_no_dot() -> None:
    async with scripted() as server:
        way = Way(server, message_size=1000)
        await way.warm_up()
        way.come(LINE * 20)
        outcome = await way.finish(way.start())
        assert outcome.failure is not None
        assert outcome.failure.reply.code == 552
        assert not server.messages
        await way.out.aclose()


@pytest.mark.parametrize(
    ("offers", "settings"),
    [
        (("SIZE 1000000",), {}),
        (("8BITMIME", "CHUNKING"), {"chunking": True}),
        (("8BITMIME",), {"max_connections": 1}),
    ],
    ids=["no 8BITMIME", "BDAT", "one connection for all"],
)
async def test_what_has_to_wait(offers: tuple[str, ...], settings: dict[str, object]) -> None:
    async with scripted(offers=offers) as server:
        way = Way(server, **settings)
        assert way.out.begin_cut_through(way.begun) is None, "no connection is open"
        await way.warm_up()
        assert way.out.begin_cut_through(way.begun) is None
        way.come(LINE)
        assert (await way.out.deliver(way.whole)).accepted
        assert len(server.lines) == 1
        await way.out.aclose()


async def test_half_of_the_connections_are_left_to_others(way: Way) -> None:
    assert way.whole.server.max_connections == 4
    slow = [way.out.deliver(replace(way.whole, content=Content(HEADER))) for _ in range(3)]
    await asyncio.gather(*slow)
    assert [way.out.begin_cut_through(way.begun) is not None for _ in range(3)] == [True, True, False]


@given(st.lists(st.lists(st.sampled_from([b"a\r\n", b".\r\n", b"..b", b"\r\n", b"x" * 9]), max_size=3), max_size=8))
async def test_it_is_the_same_message_however_it_comes(steps: list[list[bytes]]) -> None:
    body = Body()
    coming = Arriving(HEADER, body)
    sent: list[bytes] = []

    async def send() -> None:
        sent.extend([piece async for piece in pieces_as_they_come(coming.chunks())])

    sending = asyncio.create_task(send())
    for step in steps:
        body.chunks += step
        coming.more()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    coming.end()
    await sending
    assert b"".join(sent) == b"".join(pieces(Content(HEADER, tuple(body.chunks)).chunks()))
