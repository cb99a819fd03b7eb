"""One transaction: what is said to the server, and what comes of every answer it may give."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from relay.directory.model import AnswerRule, Meaning
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.dsn_parameters import Notify, OriginalRecipient, Return
from relay.mail.envelope import Recipient
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Progress
from tests.dialogs.upstream.upstream_kit import (
    CONTENT,
    FAST,
    RAW,
    SILENCE,
    Drop,
    Line,
    ScriptedServer,
    has_only,
    scripted,
    server_at,
    stand_silent,
    transfer_to,
)
from tests.peers.rows import each_row

THREE = ("a@there.example", "b@there.example", "c@there.example")

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True, params=[(), ("PIPELINING",)], ids=["one-by-one", "in-groups"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes of a transaction does not depend on whether its commands leave together."""
    monkeypatch.setattr(ScriptedServer, "always", request.param)


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    way_out = Upstream("relay.example", FAST)
    yield way_out
    await way_out.aclose()


async def deliver(
    server: ScriptedServer, *recipients: str, progress: Progress | None = None, **changes: Any
) -> Outcome:
    settings = changes.pop("settings", {})
    async with upstream() as way_out:
        transfer = transfer_to(server_at(server.port, **settings), *recipients, **changes)
        return await way_out.deliver(transfer, progress)


def failure_of(outcome: Outcome) -> Failure:
    assert outcome.failure is not None
    return outcome.failure


async def test_a_message_is_handed_over() -> None:
    progress = Progress()
    async with scripted() as server:
        outcome = await deliver(server, *THREE, progress=progress)
        assert str(outcome.accepted) == "250 2.0.0 taken as 4711"
        assert outcome.refused == {}
        assert outcome.failure is None
        assert outcome.host == "127.0.0.1"
        assert server.messages == [RAW]
        assert server.commands[0][1:] == [
            f"MAIL FROM:<support@acme.example> SIZE={CONTENT.size}",
            *(f"RCPT TO:<{each}>" for each in THREE),
            "DATA",
            "QUIT",
        ]
    assert (progress.phase, progress.final_dot_sent) == (Phase.FINAL, True)


async def test_the_null_sender_and_odd_addresses_are_said_as_they_are() -> None:
    async with scripted(offers=("SMTPUTF8", "8BITMIME")) as server:
        await deliver(server, '"a b"@there.example', "ü@bücher.example", "x@[127.0.0.1]", sender=None)
        assert server.commands[0][1:5] == [
            "MAIL FROM:<> SMTPUTF8",
            'RCPT TO:<"a b"@there.example>',
            "RCPT TO:<ü@bücher.example>".encode().decode("utf-8"),
            "RCPT TO:<x@[127.0.0.1]>",
        ]


# ---- what the client asks about reports (RFC 3461 section 5.2)

ASKED = (
    Recipient(
        Address.parse("a@there.example"), Notify("success,Delay"), OriginalRecipient("RFC822", "A+2Bb@c.example")
    ),
    Recipient(Address.parse("b@there.example"), Notify("NEVER")),
    Recipient(Address.parse("c@there.example"), original=OriginalRecipient("utf-8", "ü@c.example")),
    Recipient(Address.parse("d@there.example")),
)


async def test_a_server_with_dsn_is_told_what_the_client_asked() -> None:
    """As it came, in the spelling in which it came, and nothing else."""
    async with scripted(offers=("DSN", "SMTPUTF8")) as server:
        outcome = await deliver(server, recipients=ASKED, ret=Return.HEADERS, envid="QQ+2B1")
        assert outcome.accepted
        assert outcome.has_dsn
        assert server.commands[0][1:6] == [
            "MAIL FROM:<support@acme.example> RET=HDRS ENVID=QQ+2B1",
            "RCPT TO:<a@there.example> NOTIFY=success,Delay ORCPT=RFC822;A+2Bb@c.example",
            "RCPT TO:<b@there.example> NOTIFY=NEVER",
            "RCPT TO:<c@there.example> ORCPT=utf-8;\\x{FC}@c.example",
            "RCPT TO:<d@there.example>",
        ]


async def test_in_an_smtputf8_transaction_an_orcpt_stays_as_it_is() -> None:
    async with scripted(offers=("DSN", "SMTPUTF8", "8BITMIME")) as server:
        await deliver(server, recipients=ASKED[2:3], sender=UTF8_SENDER)
        assert server.commands[0][1:3] == [
            "MAIL FROM:<jörg@acme.example> SMTPUTF8",
            "RCPT TO:<c@there.example> ORCPT=utf-8;ü@c.example",
        ]


async def test_a_server_with_dsn_is_told_nothing_that_was_not_asked() -> None:
    async with scripted(offers=("DSN",)) as server:
        assert (await deliver(server)).has_dsn
        assert server.commands[0][1:3] == ["MAIL FROM:<support@acme.example>", "RCPT TO:<jo@there.example>"]


async def test_a_server_without_dsn_is_told_nothing_of_reports() -> None:
    async with scripted(offers=()) as server:
        outcome = await deliver(server, recipients=ASKED, ret=Return.FULL, envid="1")
        assert outcome.accepted
        assert not outcome.has_dsn
        assert server.commands[0][1] == "MAIL FROM:<support@acme.example>"
        assert server.commands[0][2:6] == [f"RCPT TO:<{each.address}>" for each in ASKED]


async def test_a_refusal_says_too_whether_the_server_has_dsn() -> None:
    async with scripted(offers=("DSN",), answers={"MAIL": b"550 5.7.1 no\r\n"}) as server:
        outcome = await deliver(server, ret=Return.FULL)
        assert outcome.failure
        assert outcome.has_dsn


EIGHT_BIT = Content("Subject: ü\r\n".encode(), (b"text\r\n",))
UTF8_BODY = Content(b"Subject: u\r\n", ("ü\r\n".encode(),))
UTF8_SENDER = Address.parse("jörg@acme.example")


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({}, ""),
        ({"smtputf8": True}, ""),
        ({"content": EIGHT_BIT}, " BODY=8BITMIME"),
        ({"content": UTF8_BODY}, " BODY=8BITMIME"),
        ({"content": UTF8_BODY, "smtputf8": True}, " BODY=8BITMIME"),
        ({"content": EIGHT_BIT, "smtputf8": True}, " BODY=8BITMIME SMTPUTF8"),
        ({"sender": UTF8_SENDER}, " SMTPUTF8"),
    ],
)
async def test_mail_asks_for_what_the_message_needs(changes: dict[str, Any], parameters: str) -> None:
    async with scripted(offers=("8BITMIME", "SMTPUTF8")) as server:
        assert (await deliver(server, **changes)).accepted
        assert server.commands[0][1].partition(">")[2] == parameters


@pytest.mark.parametrize(
    ("offers", "changes", "reply"),
    [
        (("SMTPUTF8",), {"content": EIGHT_BIT}, "554 5.6.3"),
        (("8BITMIME",), {"sender": UTF8_SENDER}, "553 5.6.7"),
        (("8BITMIME",), {"content": EIGHT_BIT, "smtputf8": True}, "550 5.6.7"),
        (("SIZE 10",), {}, "552 5.3.4"),
        (("SIZE 1000",), {"settings": {"message_size": 10}}, "552 5.3.4"),
        ((), {"settings": {"message_size": 10}}, "552 5.3.4"),
    ],
)
async def test_what_the_server_cannot_take_is_refused_by_us(
    offers: tuple[str, ...], changes: dict[str, Any], reply: str
) -> None:
    async with scripted(offers=offers) as server:
        failure = failure_of(await deliver(server, **changes))
        assert str(failure.reply).startswith(reply)
        assert (failure.meaning, failure.from_server) == (Meaning.REFUSED, False)
        assert server.verbs[0] == ["EHLO", "QUIT"]


async def test_a_recipient_that_is_not_ascii_needs_smtputf8() -> None:
    async with scripted(offers=()) as server:
        failure = failure_of(await deliver(server, "jo@there.example", "ü@there.example"))
        assert failure.reply.enhanced == "5.6.7"


# ---- recipients


async def test_accepted_recipients_get_the_message_and_refused_ones_are_told() -> None:
    answers = {"RCPT": [b"550 5.1.1 no such user\r\n", b"250 ok\r\n", b"450 4.2.0 busy\r\n"]}
    async with scripted(answers=answers) as server:
        outcome = await deliver(server, *THREE)
        assert outcome.accepted
        assert set(outcome.refused) == {0, 2}
        assert (outcome.refused[0].meaning, outcome.refused[2].meaning) == (Meaning.REFUSED, Meaning.TEMPORARY)
        assert outcome.failure_at(1) is None
        assert outcome.failure_at(2) is outcome.refused[2]
        assert len(server.messages) == 1


@pytest.mark.parametrize("code", [b"250 ok\r\n", b"251 2.1.5 forwarded\r\n", b"252 2.1.5 perhaps\r\n"])
async def test_a_forwarded_recipient_is_accepted(code: bytes) -> None:
    async with scripted(answers={"RCPT": code}) as server:
        assert (await deliver(server)).accepted


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_all_or_none_sends_no_data_after_a_refused_recipient(place: int) -> None:
    answers = [b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n"]
    answers[place] = b"450 4.2.0 busy\r\n"
    async with scripted(answers={"RCPT": answers}) as server:
        outcome = await deliver(server, *THREE, all_or_none=True)
        assert outcome.accepted is None
        assert set(outcome.refused) == {place}
        assert outcome.failure is outcome.refused[place]
        assert "DATA" not in server.verbs[0]


async def test_another_452_is_about_its_recipient() -> None:
    async with scripted(answers={"RCPT": [b"452 4.2.2 full\r\n", b"250 ok\r\n"]}) as server:
        outcome = await deliver(server, *THREE)
        assert set(outcome.refused) == {0}
        assert not outcome.refused[0].in_next_transaction


async def test_a_421_at_rcpt_ends_it_all_in_the_servers_words() -> None:
    answers = {"RCPT": [b"550 5.1.1 no\r\n", Drop(b"421 4.7.0 too much at once\r\n")]}
    async with scripted(answers=answers) as server:
        outcome = await deliver(server, *THREE)
        failure = failure_of(outcome)
        assert str(failure.reply) == "421 4.7.0 too much at once"
        assert (failure.phase, failure.meaning) == (Phase.RCPT, Meaning.THROTTLE)
        assert set(outcome.refused) == {0}
        assert outcome.failure_at(2) is failure


async def test_a_421_that_nobody_asked_for_is_not_lost() -> None:
    async with scripted(answers={"MAIL": Drop(b"250 ok\r\n421 4.3.2 stopping\r\n")}) as server:
        failure = failure_of(await deliver(server))
        assert str(failure.reply) == "421 4.3.2 stopping"
        assert failure.phase is Phase.RCPT


async def test_a_refusal_with_a_closed_connection_is_about_its_recipient_alone() -> None:
    async with scripted(answers={"RCPT": Drop(b"550 5.1.1 no, and good-bye\r\n")}) as server:
        outcome = await deliver(server, *THREE)
        assert outcome.refused[0].meaning is Meaning.REFUSED
        assert failure_of(outcome).meaning is Meaning.TEMPORARY
        assert outcome.failure_at(1) is outcome.failure


async def test_a_servers_own_rule_reads_its_answer() -> None:
    rules = (AnswerRule(match="mailbox busy", means=Meaning.QUOTA),)
    async with scripted(answers={"RCPT": b"450 4.2.0 Mailbox busy\r\n"}) as server:
        outcome = await deliver(server, settings={"answers": rules})
        assert outcome.refused[0].meaning is Meaning.QUOTA


# ---- refusals at each step

BEFORE_CONTENT = [Phase.MAIL, Phase.RCPT, Phase.DATA]
ANSWERS = [
    (b"554 5.7.1 no\r\n", "554 5.7.1 no", Meaning.REFUSED),
    (b"451 4.3.0 later\r\n", "451 4.3.0 later", Meaning.TEMPORARY),
    (b"421 4.3.0 closing\r\n", "421 4.3.0 closing", Meaning.TEMPORARY),
    (b"no answer\r\n", "451 4.5.0", Meaning.TEMPORARY),
    (b"999 no\r\n", "451 4.5.0", Meaning.TEMPORARY),
    (b"150 no\r\n", "451 4.5.0", Meaning.TEMPORARY),
    (stand_silent, "451 4.4.2", Meaning.TEMPORARY),
    (Drop(), "451 4.4.2", Meaning.TEMPORARY),
    (Drop(b"250-half"), "451 4.4.2", Meaning.TEMPORARY),
]


@each_row("phase", BEFORE_CONTENT)
@each_row(("answer", "reply", "meaning"), ANSWERS, ids=range(len(ANSWERS)))
async def test_a_step_fails(phase: Phase, answer: Any, reply: str, meaning: Meaning) -> None:
    progress = Progress()
    async with scripted(answers={phase.upper(): answer}) as server:
        failure = failure_of(await deliver(server, progress=progress))
        assert (failure.phase, failure.meaning) == (phase, meaning)
        assert str(failure.reply).startswith(reply)
        assert not progress.final_dot_sent
        assert server.messages == []


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
async def test_an_unwanted_354_is_ended_by_closing(verb: str) -> None:
    rest = asyncio.get_running_loop().create_future()

    async def invite(line: Line) -> None:
        await line.send(b"354 go on\r\n")
        rest.set_result(await line.reader.read())

    async with scripted(answers={verb: invite}) as server:
        failure = failure_of(await deliver(server))
        assert failure.reply.enhanced == "4.5.0"
        assert has_only(await asyncio.wait_for(rest, 20), "RCPT", "DATA")


async def test_a_success_instead_of_354_is_no_success() -> None:
    async with scripted(answers={"DATA": b"250 thanks\r\n"}) as server:
        failure = failure_of(await deliver(server))
        assert (failure.phase, failure.meaning) == (Phase.DATA, Meaning.TEMPORARY)


async def test_an_answer_ready_before_the_message_is_not_taken_for_one() -> None:
    async with scripted(answers={"DATA": b"354 go on\r\n250 2.0.0 taken already\r\n"}) as server:
        progress = Progress()
        failure = failure_of(await deliver(server, progress=progress))
        assert (failure.phase, failure.meaning) == (Phase.DATA, Meaning.TEMPORARY)
        assert not progress.final_dot_sent


async def test_an_empty_line_too_many_is_forgiven() -> None:
    async with scripted(answers={"MAIL": b"250 ok\r\n\r\n", "DATA": b"354 go on\r\n"}) as server:
        server.answers = {"MAIL": b"250 ok\r\n\r\n"}
        assert (await deliver(server)).accepted


# ---- the message and the answer to it

FINAL_ANSWERS = [
    (b"554 5.6.0 no\r\n", "554 5.6.0 no", Meaning.REFUSED),
    (b"451 4.3.0 later\r\n", "451 4.3.0 later", Meaning.TEMPORARY),
    (b"421 4.3.0 closing\r\n", "421 4.3.0 closing", Meaning.TEMPORARY),
    (b"554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException\r\n", "554 5.2.0", Meaning.QUOTA),
    (b"no answer\r\n", "451 4.5.0", Meaning.UNKNOWN),
    (b"354 again?\r\n", "451 4.5.0", Meaning.UNKNOWN),
    (b"999 ok\r\n", "451 4.5.0", Meaning.UNKNOWN),
    (SILENCE, "451 4.4.2", Meaning.UNKNOWN),
    (Drop(), "451 4.4.2", Meaning.UNKNOWN),
    (Drop(b"25"), "451 4.4.2", Meaning.UNKNOWN),
]


@each_row(("answer", "reply", "meaning"), FINAL_ANSWERS, ids=range(len(FINAL_ANSWERS)))
async def test_an_answer_to_the_final_dot(answer: Any, reply: str, meaning: Meaning) -> None:
    progress = Progress()
    async with scripted(answers={".": answer}) as server:
        failure = failure_of(await deliver(server, progress=progress))
        assert (failure.phase, failure.meaning) == (Phase.FINAL, meaning)
        assert str(failure.reply).startswith(reply)
        assert progress.final_dot_sent
        assert len(server.messages) == 1


async def test_an_answer_that_comes_in_small_pieces() -> None:
    async def stutter(line: Line) -> None:
        for byte in b"250-2.0.0 one\r\n250 2.0.0 two\r\n":
            await line.send(bytes([byte]))
            await asyncio.sleep(0)

    async with scripted(answers={".": stutter}) as server:
        assert str((await deliver(server)).accepted) == "250 2.0.0 one two"


async def test_control_characters_of_a_server_end_here() -> None:
    async with scripted(answers={".": b"250 2.0.0 a\x1b[31m\x00b \xff\r\n"}) as server:
        accepted = (await deliver(server)).accepted
        assert accepted is not None
        assert accepted.text.isprintable()


LARGE = Content(b"Subject: large\r\n", tuple(b"x" * 998 + b"\r\n" + b"." * 64_000 + b"\r\n" for _ in range(160)))


async def test_a_slow_reader_is_waited_for_piece_by_piece() -> None:
    """The whole message takes longer than any deadline; each piece does not."""

    async def read_slowly(line: Line) -> None:
        line.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
        await line.send(b"354 go on\r\n")
        raw = bytearray()
        while not raw.endswith(b"\r\n.\r\n"):
            raw += await line.reader.read(256 * 1024)
            await asyncio.sleep(0.06)
        await line.send(b"250 2.0.0 at last\r\n")

    async with scripted(answers={"DATA": read_slowly}) as server:
        started = time.monotonic()
        timeouts = replace(FAST, reply=5, chunk=2, final=5)  # a piece takes some 0.06 s of it, on a machine at rest
        way_out = Upstream("relay.example", timeouts)
        outcome = await way_out.deliver(transfer_to(server_at(server.port), content=LARGE))
        assert outcome.accepted
        assert time.monotonic() - started > timeouts.chunk
        await way_out.aclose()


async def stand_still(line: Line) -> None:
    line.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await line.send(b"354 go on\r\n")
    await asyncio.Event().wait()


async def test_a_server_that_stops_reading_is_given_up() -> None:
    progress = Progress()
    async with scripted(answers={"DATA": stand_still}) as server:
        failure = failure_of(await deliver(server, content=LARGE, progress=progress))
        assert (failure.phase, failure.meaning) == (Phase.CONTENT, Meaning.TEMPORARY)
        assert not progress.final_dot_sent


async def drop_in_the_middle(line: Line) -> None:
    await line.send(b"354 go on\r\n")
    await line.reader.read(100_000)
    line.drop()


async def test_a_connection_lost_in_the_middle_of_the_message_is_temporary() -> None:
    progress = Progress()
    async with scripted(answers={"DATA": drop_in_the_middle}) as server:
        failure = failure_of(await deliver(server, content=LARGE, progress=progress))
        assert (failure.phase, failure.meaning) == (Phase.CONTENT, Meaning.TEMPORARY)
        assert not progress.final_dot_sent


@pytest.mark.parametrize(
    ("said", "reply", "meaning"),
    [
        (b"552 5.3.4 too much\r\n", "552 5.3.4 too much", Meaning.REFUSED),
        (b"421 4.3.1 disk full\r\n", "421 4.3.1 disk full", Meaning.TEMPORARY),
        (b"250 2.0.0 enough\r\n", "451 4.5.0", Meaning.TEMPORARY),
    ],
)
async def test_an_answer_in_the_middle_of_the_message_ends_it(said: bytes, reply: str, meaning: Meaning) -> None:
    progress = Progress()
    rest = asyncio.get_running_loop().create_future()

    async def answer_early(line: Line) -> None:
        await line.send(b"354 go on\r\n")
        await line.reader.readexactly(100_000)
        await line.send(said)
        got = bytearray()
        while piece := await line.reader.read(1_000_000):
            got = (got + piece)[-5:]
        rest.set_result(bytes(got))

    async with scripted(answers={"DATA": answer_early}) as server:
        failure = failure_of(await deliver(server, content=LARGE, progress=progress))
        assert (failure.phase, failure.meaning) == (Phase.CONTENT, meaning)
        assert str(failure.reply).startswith(reply)
        assert not progress.final_dot_sent
        server.tasks[0].cancel()


async def test_a_large_message_arrives_byte_by_byte_and_is_not_held_twice() -> None:
    async with scripted() as server:
        assert (await deliver(server, content=LARGE)).accepted
        lines = server.messages[0].removesuffix(b".\r\n").split(b"\r\n")[:-1]
        assert b"".join(line.removeprefix(b".") + b"\r\n" for line in lines) == b"".join(LARGE.chunks())


# ---- cancelling


@pytest.mark.parametrize("key", ["greeting", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_cancelling_before_the_final_dot_closes_and_sends_nothing(key: str) -> None:
    came = asyncio.Event()
    rest = asyncio.get_running_loop().create_future()

    async def hang(line: Line) -> None:
        came.set()
        rest.set_result(await line.reader.read())

    progress = Progress()
    async with scripted(answers={key: hang}) as server, upstream() as way_out:
        task = asyncio.create_task(way_out.deliver(transfer_to(server_at(server.port)), progress))
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not progress.final_dot_sent
        assert has_only(await asyncio.wait_for(rest, 20), "RCPT", "DATA")
        assert way_out.connections() == {}


async def test_cancelling_in_the_middle_of_the_message_sends_no_dot() -> None:
    came = asyncio.Event()
    rest = asyncio.get_running_loop().create_future()

    async def hang(line: Line) -> None:
        await line.send(b"354 go on\r\n")
        await line.reader.readexactly(100_000)
        came.set()
        await asyncio.sleep(0.05)  # so that it is cancelled in the middle
        try:
            rest.set_result((await line.reader.read())[-5:])
        except ConnectionError:
            rest.set_result(b"")

    progress = Progress()
    async with scripted(answers={"DATA": hang}) as server, upstream() as way_out:
        transfer = transfer_to(server_at(server.port), content=LARGE)
        task = asyncio.create_task(way_out.deliver(transfer, progress))
        await came.wait()
        assert (progress.phase, progress.final_dot_sent) == (Phase.CONTENT, False)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.wait_for(rest, 20) != b"\r\n.\r\n"


async def test_a_shielded_delivery_goes_on_after_the_final_dot() -> None:
    dotted, answer = asyncio.Event(), asyncio.Event()

    async def wait(line: Line) -> None:
        dotted.set()
        await answer.wait()
        await line.send(b"250 2.0.0 late, but taken\r\n")

    progress = Progress()
    async with scripted(answers={".": wait}) as server, upstream() as way_out:
        delivery = asyncio.create_task(way_out.deliver(transfer_to(server_at(server.port)), progress))
        waiter = asyncio.create_task(asyncio.wait_for(asyncio.shield(delivery), 60))
        await dotted.wait()
        assert progress.final_dot_sent
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        answer.set()
        assert str((await delivery).accepted) == "250 2.0.0 late, but taken"
