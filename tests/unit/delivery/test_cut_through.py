"""A large message that still comes: when it may go ahead, and that whatever becomes of it decides nothing."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from relay.delivery.submission import Submission
from relay.directory.model import Meaning, Mode
from relay.directory.routing import Routing
from relay.directory.rules.validation import parse_directory
from relay.mail.content import Content, GrowingBody
from relay.mail.reply import Reply
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.upstream.transaction import Progress, Transfer
from tests.peers.moments import a_while
from tests.unit.delivery.bench_kit import (
    CLIENT,
    DIRECTORY,
    MESSAGE,
    Bench,
    FakeUpstream,
    Maker,
    arrival_now,
    complete,
    envelope_of,
    failed,
)

SUPPORT = "support@acmejets.example"


class Body:
    """A body outside of memory."""

    size = 7
    is_ascii = True

    def __iter__(self) -> Iterator[bytes]:
        return self.since(0)

    def since(self, start: int) -> Iterator[bytes]:
        yield b"Hello\r\n"[start:]


@dataclass
class CutThroughTransaction:
    """One that nobody takes on."""

    abandoned: int = 0
    finished: list[Transfer] = field(default_factory=list)

    def abandon(self) -> None:
        self.abandoned += 1

    async def finish(self, transfer: Transfer, progress: Progress) -> Outcome | None:
        self.finished.append(transfer)
        return None


async def foreseen(
    bench: Bench, sender: str = SUPPORT, to: str = "a@example.net", header: bytes = MESSAGE.header
) -> tuple[Submission, Content]:
    """Begin a submission by what is there of its message, and let that go as far as it goes."""
    body: GrowingBody = Body()
    submission = bench.acceptance.open(CLIENT, envelope_of(sender, to), arrival_now())
    submission.foresee(header, body)
    for _ in range(20):
        await asyncio.sleep(0)
    return submission, Content(header, body)


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.DIRECT])
async def test_what_went_ahead_is_what_is_handed_over(make_bench: Maker, mode: Mode) -> None:
    cut_through = CutThroughTransaction()
    bench = make_bench(FakeUpstream(cut_through=cut_through), mode=mode)
    submission, content = await foreseen(bench)
    submission.more()
    (ahead,) = bench.upstream.ahead
    assert ahead.all_or_none
    assert ahead.arriving is not None
    assert ahead.content.body == ()
    assert (await complete(submission, content)).code == 250
    (transfer,) = bench.upstream.transfers
    assert transfer.cut_through is cut_through
    assert replace(ahead, arriving=None, content=transfer.content) == replace(
        transfer, cut_through=None, all_or_none=True
    )
    assert ahead.content.header == ahead.arriving.header == transfer.content.header
    assert ahead.arriving.is_of(transfer.content.body)
    assert cut_through.abandoned, "the upstream of this test has not taken it on"


def limited(**keys: Any) -> Routing:
    servers = {**DIRECTORY["servers"], "acmejets": {**DIRECTORY["servers"]["acmejets"], **keys}}
    return Routing(parse_directory({**DIRECTORY, "servers": servers}, "directory.toml"))


@pytest.mark.parametrize(
    "keys", [{"messages_per_minute": 60}, {"recipients_per_day": 60}, {"recipients_per_message": 1}], ids=str
)
async def test_what_uses_up_a_limit_waits_for_its_end(make_bench: Maker, keys: dict[str, int]) -> None:
    bench = make_bench()
    routing = limited(**keys)
    bench.acceptance = replace(bench.acceptance, routing=lambda: routing)
    await foreseen(bench, to="a@example.net,b@example.net")
    assert not bench.upstream.ahead


@pytest.mark.parametrize(
    ("sender", "header"),
    [
        ("nobody@acmejets.example", MESSAGE.header),
        ("bare@acmejets.example", MESSAGE.header),
        (SUPPORT, b"From: a@b.example, c@d.example\r\nno field\r\n"),
        (SUPPORT, b"Received: by relay.test\r\n" * 60 + MESSAGE.header),
    ],
    ids=["no profile", "no password", "no header", "a loop"],
)
async def test_what_will_be_refused_waits_for_its_end(make_bench: Maker, sender: str, header: bytes) -> None:
    bench = make_bench()
    submission, content = await foreseen(bench, sender, header=header)
    assert not bench.upstream.ahead
    assert (await complete(submission, content)).code >= 500


async def test_what_is_queued_waits_for_its_end(make_bench: Maker) -> None:
    bench = make_bench(mode=Mode.QUEUED)
    await foreseen(bench)
    assert not bench.upstream.ahead


async def test_a_held_account_gets_nothing(make_bench: Maker) -> None:
    bench = make_bench(failed(Meaning.LOGIN_REFUSED, Reply(535, "5.7.8", "no"), Phase.LOGIN))
    assert (await bench.send(SUPPORT)).code == 451
    await foreseen(bench)
    assert not bench.upstream.ahead


async def test_a_hold_that_comes_meanwhile_ends_what_went_ahead(make_bench: Maker) -> None:
    cut_through = CutThroughTransaction()
    bench = make_bench(FakeUpstream(cut_through=cut_through), mode=Mode.AUTO)
    submission, content = await foreseen(bench)
    failure = Failure(
        phase=Phase.LOGIN, reply=Reply(535, "5.7.8", "no"), meaning=Meaning.LOGIN_REFUSED, from_server=True
    )
    route = bench.acceptance.routing().route(envelope_of(SUPPORT).sender)  # type: ignore[arg-type]
    assert route is not None
    accounts, clock = bench.acceptance.attempts.accounts, bench.acceptance.attempts.recorder.clock
    secret = await bench.acceptance.attempts.secret_of(route)
    assert secret is not None
    accounts.hold(route.account, route.identity, failure, secret.version, clock())
    assert "queued as" in str(await complete(submission, content))
    assert cut_through.abandoned == 1
    assert not bench.upstream.transfers


async def test_what_never_comes_whole_is_abandoned(make_bench: Maker) -> None:
    cut_through = CutThroughTransaction()
    bench = make_bench(FakeUpstream(cut_through=cut_through))
    submission, _ = await foreseen(bench)
    submission.abandon()
    assert cut_through.abandoned == 1


async def test_what_is_abandoned_before_it_went_never_goes(make_bench: Maker) -> None:
    bench = make_bench()
    submission = bench.acceptance.open(CLIENT, envelope_of(SUPPORT), arrival_now())
    submission.foresee(MESSAGE.header, Body())
    submission.abandon()
    await a_while(0.05)
    assert not bench.upstream.ahead
