"""A server whose answers are out of step with our commands: nothing that it said is final (RFC 2920, RFC 5321 4.2)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiosmtplib.errors import SMTPResponseException

from relay.directory.model import Auth, Meaning
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.upstream.pool import Upstream
from relay.upstream.protocol import response_of, take_reply
from relay.upstream.transaction import Progress
from tests.dialogs.upstream.upstream_kit import (
    FAST,
    SILENCE,
    Drop,
    ScriptedServer,
    scripted,
    server_at,
    stand_silent,
    transfer_to,
    until,
)
from tests.peers.rows import each_row

pytestmark = pytest.mark.timeout(60)
PIPELINING = ("PIPELINING", "8BITMIME")
CHUNKS = ("PIPELINING", "8BITMIME", "CHUNKING")
GOOD, NO, INVITATION = b"250 2.1.0 ok\r\n", b"550 5.1.1 no\r\n", b"354 go on\r\n"
SURPLUS = {"550": NO, "250": GOOD, "354": INVITATION}
TWO = ("a@there.example", "b@there.example")


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    way_out = Upstream("relay.example", FAST)
    yield way_out
    await way_out.aclose()


async def attempt(
    way_out: Upstream, server: ScriptedServer, progress: Progress | None = None, **changes: Any
) -> Outcome:
    settings = changes.pop("settings", {})
    return await way_out.deliver(transfer_to(server_at(server.port, **settings), *TWO, **changes), progress)


def all_failures(outcome: Outcome) -> list[Failure]:
    return [failure for failure in (outcome.failure, *outcome.refused.values()) if failure is not None]


def places(surplus: bytes) -> dict[str, dict[str, Any]]:
    """One answer too many, before or behind that of each command, in the transaction's first use alone."""
    return {
        "before MAIL": {"MAIL": [surplus + GOOD, GOOD]},
        "behind MAIL": {"MAIL": [GOOD + surplus, GOOD]},
        "behind RCPT": {"RCPT": [GOOD + surplus, GOOD]},
        "behind the last RCPT": {"RCPT": [GOOD, GOOD + surplus, GOOD]},
    }


@each_row("all_or_none", [False, True], ids=["some", "all-or-none"])
@each_row("offers", [PIPELINING, CHUNKS, ("8BITMIME",)], ids=["pipelined", "bdat", "one-by-one"])
@each_row("place", list(places(b"")))
@each_row("surplus", list(SURPLUS))
async def test_an_answer_too_many_fails_nothing_for_good_and_the_next_attempt_delivers(
    surplus: str, place: str, offers: tuple[str, ...], all_or_none: bool
) -> None:
    answers = places(SURPLUS[surplus])[place]
    settings = {"chunking": offers is CHUNKS}
    async with scripted(offers=offers, answers=answers) as server, upstream() as way_out:
        progress = Progress()
        outcome = await attempt(way_out, server, progress, all_or_none=all_or_none, settings=settings)
        assert [failure.meaning for failure in all_failures(outcome)] == [Meaning.TEMPORARY]
        assert not progress.final_dot_sent
        assert server.messages == []
        assert way_out.connections() == {}, "this connection is used no more"
        again = await attempt(way_out, server, all_or_none=all_or_none, settings=settings)
        assert again.is_complete
        assert len(server.messages) == 1


@pytest.mark.parametrize("data", [SILENCE, b"noise\r\n", b"250 what?\r\n", b"550-no\r\n554 no\r\n"])
async def test_a_refused_recipient_is_not_refused_where_data_has_no_answer_of_its_own(data: bytes) -> None:
    answers: dict[str, Any] = {"RCPT": [NO, NO, GOOD], "DATA": data}
    async with scripted(offers=PIPELINING, answers=answers) as server, upstream() as way_out:
        outcome = await attempt(way_out, server)
        assert [failure.meaning for failure in all_failures(outcome)] == [Meaning.TEMPORARY]
        del answers["DATA"]
        assert (await attempt(way_out, server)).is_complete
        assert len(server.messages) == 1


HELLO = b"EHLO\r\n"  # stands for what it is answered
REFUSED_HELLO = b"503 5.5.1 once is enough\r\n"
PROOFS: list[tuple[Any, Meaning]] = [
    (HELLO, Meaning.REFUSED),
    (REFUSED_HELLO, Meaning.REFUSED),
    (b"421 4.7.0 too many errors\r\n", Meaning.REFUSED),
    (Drop(), Meaning.REFUSED),
    (GOOD, Meaning.TEMPORARY),
    (GOOD + HELLO, Meaning.TEMPORARY),
    (b"450 4.2.0 later\r\n" + HELLO, Meaning.TEMPORARY),
    (HELLO + GOOD, Meaning.TEMPORARY),
    (INVITATION, Meaning.TEMPORARY),
    (SILENCE, Meaning.TEMPORARY),
]


@each_row("way", ["direct", "bdat", "DATA"])
@each_row(("proof", "meaning"), PROOFS, ids=range(len(PROOFS)))
async def test_a_refusal_at_the_end_of_a_group_is_proven(proof: Any, meaning: Meaning, way: str) -> None:
    """What was said last may be an answer too many, whose command is answered later: at the next one."""
    offers = CHUNKS if way == "bdat" else PIPELINING
    hello = "\r\n".join(["250-scripted.example", *(f"250-{offer}" for offer in offers), "250 HELP", ""]).encode()
    said = proof.replace(HELLO, hello) if isinstance(proof, bytes) else proof
    answers: dict[str, Any] = {"EHLO": [hello, said, hello]}
    answers |= {"DATA": NO} if way == "DATA" else {"RCPT": [NO, NO, GOOD]}
    changes: dict[str, Any] = {"all_or_none": way == "direct", "settings": {"chunking": way == "bdat"}}
    async with scripted(offers=offers, answers=answers) as server, upstream() as way_out:
        outcome = await attempt(way_out, server, **changes)
        assert {failure.meaning for failure in all_failures(outcome)} == {meaning}
        assert server.messages == []
        answers.pop("DATA", None)
        assert (await attempt(way_out, server, **changes)).is_complete
        is_used_again = proof in {HELLO, REFUSED_HELLO}
        assert len(server.lines) == (1 if is_used_again else 2)
        assert ("RSET" in server.lines[0].commands) is (proof == REFUSED_HELLO)


@pytest.mark.parametrize("is_late", [False, True], ids=["in-step", "late"])
async def test_a_refusal_of_some_is_proven_by_data_where_bdat_would_not(is_late: bool) -> None:
    """In a message by BDAT nothing is answered 354."""
    answers: dict[str, Any] = {"RCPT": [NO, GOOD]}
    if is_late:
        answers = {"MAIL": [GOOD + NO, GOOD], "RCPT": [SILENCE, GOOD], "DATA": GOOD + INVITATION}
    async with scripted(offers=CHUNKS, answers=answers) as server, upstream() as way_out:
        outcome = await attempt(way_out, server, settings={"chunking": True})
        meanings = [failure.meaning for failure in all_failures(outcome)]
        assert meanings == [Meaning.TEMPORARY if is_late else Meaning.REFUSED]
        assert len(server.messages) == (0 if is_late else 1)
        assert (await attempt(way_out, server, settings={"chunking": True})).is_complete


async def test_a_missing_answer_makes_no_refusal_of_the_next_ones() -> None:
    """MAIL is not answered, so the refusal of a recipient comes where its answer would be."""
    answers = {"MAIL": SILENCE, "RCPT": NO, "DATA": b"503 5.5.1 nobody\r\n"}
    async with scripted(offers=PIPELINING, answers=answers) as server, upstream() as way_out:
        outcome = await attempt(way_out, server)
        assert [failure.meaning for failure in all_failures(outcome)] == [Meaning.TEMPORARY]


async def test_who_refuses_and_says_good_bye_is_believed() -> None:
    """A 421 may come at any moment (RFC 5321 section 3.8), also behind the last answer."""
    answers = {"RCPT": NO, "DATA": b"503 5.5.1 nobody\r\n421 4.7.0 too many errors\r\n"}
    async with scripted(offers=PIPELINING, answers=answers) as server, upstream() as way_out:
        outcome = await attempt(way_out, server)
        assert {failure.meaning for failure in outcome.refused.values()} == {Meaning.REFUSED}
        assert way_out.connections() == {}


async def test_an_early_refusal_that_answers_nothing_is_not_final() -> None:
    async def invite(line: Any) -> None:
        await line.send(INVITATION)
        await line.reader.readexactly(10)
        await line.send(NO)
        await stand_silent(line)

    async with scripted(answers={"DATA": invite}) as server, upstream() as way_out:
        progress = Progress(before_final_dot=lambda: _until_answered(way_out))
        outcome = await attempt(way_out, server, progress)
        assert [failure.meaning for failure in all_failures(outcome)] == [Meaning.TEMPORARY]
        assert not progress.final_dot_sent


async def _until_answered(way_out: Upstream) -> None:
    connection = next(iter(way_out._homes))
    await until(connection.link._waiter.done)


FINAL = [
    (b"250 taken\r\n421 4.4.2 bye\r\n", None),
    (b"250 taken\r\n250 again\r\n", None),
    (b"250 taken\r\nnoise\r\n", None),
    (b"550 5.6.0 no\r\n421 4.4.2 bye\r\n", Meaning.REFUSED),
    (b"250 ok\r\n550 5.6.0 no\r\n", Meaning.UNKNOWN),
    (b"550 5.6.0 no\r\n250 taken\r\n", Meaning.UNKNOWN),
    (b"550 5.6.0 no\r\n550 5.6.0 no\r\n", Meaning.UNKNOWN),
    (b"250-taken\r\n550 no\r\n", Meaning.UNKNOWN),
]


@pytest.mark.parametrize(("said", "meaning"), FINAL, ids=range(len(FINAL)))
async def test_two_answers_to_the_final_dot_that_disagree_are_none(said: bytes, meaning: Meaning | None) -> None:
    async with scripted(offers=PIPELINING, answers={".": [said, b"250 taken\r\n"]}) as server, upstream() as way_out:
        outcome = await attempt(way_out, server)
        assert (outcome.failure.meaning if outcome.failure else None) is meaning
        assert way_out.connections() == {}
        assert (await attempt(way_out, server)).accepted
        assert len(server.lines) == 2


async def test_a_login_with_two_answers_is_not_refused() -> None:
    answers = {"AUTH": b"535 5.7.8 no\r\n235 2.7.0 welcome\r\n"}
    async with scripted(answers=answers) as server, upstream() as way_out:
        outcome = await attempt(way_out, server, settings={"auth": Auth.PLAIN})
        assert [failure.meaning for failure in all_failures(outcome)] == [Meaning.TEMPORARY]


async def test_the_log_names_the_server_and_what_it_said(capsys: pytest.CaptureFixture[str]) -> None:
    answers = {"MAIL": [NO + GOOD, GOOD], ".": b"250 taken\r\n250 again\r\n"}
    async with scripted(offers=PIPELINING, answers=answers) as server, upstream() as way_out:
        await attempt(way_out, server)
        told = capsys.readouterr().err
        assert told.count("acme") == 1
        assert "out of step" in told
        await attempt(way_out, server)
        told = capsys.readouterr().err
        assert "250 again" in told
        assert "acme" in told


@pytest.mark.parametrize(
    "said",
    [
        b"2200 x\r\n",
        b"22 x\r\n",
        b"2_0 x\r\n",
        b" 20 x\r\n",
        b"+20 x\r\n",
        b"220\tx\r\n",
        b"220x\r\n",
        b"220-a\r\n250 b\r\n",
        b"220-a\r\n\r\n220 b\r\n",
        b"220-a\r\n220",
        b"\xb2\xb20 x\r\n",
    ],
)
async def test_a_greeting_is_read_by_the_letter(said: bytes) -> None:
    answers = {"greeting": [Drop(said), b"220-one\r\n220 two\r\n"]}
    async with scripted(answers=answers) as server, upstream() as way_out:
        outcome = await attempt(way_out, server)
        assert outcome.failure is not None
        assert (outcome.failure.phase, outcome.failure.meaning) == (Phase.GREETING, Meaning.TEMPORARY)
        assert server.commands == [[]]
        assert (await attempt(way_out, server)).accepted


@pytest.mark.parametrize(
    ("said", "code", "text"),
    [
        (b"220\r\n", 220, ""),
        (b"220 \n", 220, ""),
        (b"220-\r\n220\r\n", 220, "\n"),
        (b"250-a-b\r\n250  c \r\nrest", 250, "a-b\nc"),
        (b"999 \xff\r\n", 999, "\udcff"),
    ],
)
def test_a_reply_is_taken_out_of_the_buffer(said: bytes, code: int, text: str) -> None:
    buffer = bytearray(said)
    reply = take_reply(buffer)
    assert reply is not None
    assert response_of(reply) == (code, text)
    assert buffer == said.partition(b"rest")[1]


@pytest.mark.parametrize("said", [b"", b"2", b"250", b"250-a\r\n", b"250-a\r\n25"])
def test_a_reply_that_is_not_whole_waits(said: bytes) -> None:
    buffer = bytearray(said)
    assert take_reply(buffer) is None
    assert buffer == said


@pytest.mark.parametrize("said", [b"250-\n" * 501 + b"250 \n", b"250 " + b"x" * 8192 + b"\n"])
def test_a_reply_has_bounds(said: bytes) -> None:
    with pytest.raises(SMTPResponseException):
        take_reply(bytearray(said))


async def test_a_421_on_a_kept_connection_slows_nothing_unless_the_new_one_hears_it_too() -> None:
    bye = Drop(b"421 4.3.2 stopping\r\n")
    async with scripted(answers={"MAIL": [GOOD, bye, bye, GOOD]}) as server, upstream() as way_out:
        assert (await attempt(way_out, server)).accepted
        failure = (await attempt(way_out, server)).failure
        assert failure is not None
        assert failure.meaning is Meaning.THROTTLE
        assert len(server.lines) == 2
        assert (await attempt(way_out, server)).accepted
