"""MAIL, RCPT and DATA in one go (RFC 2920): what leaves together, and that every answer belongs to its command."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
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
    FAST,
    RAW,
    SILENCE,
    Answer,
    Drop,
    Line,
    ScriptedServer,
    has_only,
    scripted,
    server_at,
    stand_silent,
    transfer_to,
)
from tests.peers.recorder import Recorder, recorder_server

pytestmark = pytest.mark.timeout(60)
GOOD, INVITATION = b"250 2.1.0 ok\r\n", b"354 go on\r\n"
PIPELINING = ("PIPELINING", "8BITMIME")
THREE = ("a@there.example", "b@there.example", "c@there.example")


@asynccontextmanager
async def upstream(**timeouts: float) -> AsyncIterator[Upstream]:
    way_out = Upstream("relay.example", replace(FAST, **timeouts))
    yield way_out
    await way_out.aclose()


def to(server: ScriptedServer | Recorder, *recipients: str, **changes: Any) -> Transfer:
    settings = changes.pop("settings", {})
    return transfer_to(server_at(server.port, **settings), *recipients, **changes)


async def deliver(
    server: ScriptedServer, *recipients: str, progress: Progress | None = None, **changes: Any
) -> Outcome:
    async with upstream() as way_out:
        return await way_out.deliver(to(server, *recipients, **changes), progress)


def failure_of(outcome: Outcome) -> Failure:
    assert outcome.failure is not None
    return outcome.failure


def addresses(number: int) -> list[str]:
    return [f"r{index}@there.example" for index in range(number)]


# ---- what leaves together


@asynccontextmanager
async def recorder(*extensions: str) -> AsyncIterator[Recorder]:
    lines = ["recorder.test", *extensions]
    said = "".join(f"250{' ' if line is lines[-1] else '-'}{line}\r\n" for line in lines)
    with recorder_server({"EHLO": said.encode()}) as server:
        yield server


def turns(server: Recorder) -> list[list[str]]:
    """The verbs of each turn of the only connection, a message as "." alone."""
    assert len(server.conversations) == 1
    heard = server.conversations[0].turns
    return [["."] if turn == RAW else [line.split()[0] for line in turn.decode().splitlines()] for turn in heard]


ENVELOPE, DATA = ["MAIL", "RCPT"], ["DATA"]


async def test_a_message_on_a_kept_connection_takes_two_turns() -> None:
    async with recorder("PIPELINING") as server, upstream() as way_out:
        for _ in range(3):
            assert (await way_out.deliver(to(server))).accepted
        assert turns(server) == [["EHLO"], *[ENVELOPE + DATA, ["."]] * 3]
        assert server.messages == [RAW.removesuffix(b".\r\n")] * 3


async def test_without_the_announcement_every_command_waits_for_its_answer() -> None:
    async with recorder("8BITMIME") as server, upstream() as way_out:
        for _ in range(2):
            assert (await way_out.deliver(to(server))).accepted
        assert turns(server) == [["EHLO"], *[["MAIL"], ["RCPT"], ["DATA"], ["."]] * 2]


async def test_where_all_or_none_get_it_data_follows_all_answers() -> None:
    async with recorder("PIPELINING") as server, upstream() as way_out:
        assert (await way_out.deliver(to(server, *THREE, all_or_none=True))).accepted
        assert turns(server) == [["EHLO"], ["MAIL", "RCPT", "RCPT", "RCPT"], ["DATA"], ["."]]


async def test_a_reset_leaves_with_what_follows_it() -> None:
    async with recorder("PIPELINING") as server, upstream() as way_out:
        server.replies |= {"RCPT": b"550 5.1.1 no\r\n", "DATA": b"554 5.5.1 nobody\r\n"}
        assert (await way_out.deliver(to(server))).failure
        server.replies |= {"RCPT": GOOD, "DATA": INVITATION}
        assert (await way_out.deliver(to(server))).accepted
        assert turns(server) == [["EHLO"], ENVELOPE + DATA, ["RSET", *ENVELOPE, *DATA], ["."]]


async def test_so_many_recipients_leave_in_groups_of_a_hundred() -> None:
    async with recorder("PIPELINING") as server, upstream() as way_out:
        assert (await way_out.deliver(to(server, *addresses(250)))).accepted
        sizes = [(turn.count("MAIL"), turn.count("RCPT"), turn.count("DATA")) for turn in turns(server)]
        assert sizes == [(0, 0, 0), (1, 100, 0), (0, 100, 0), (0, 50, 1), (0, 0, 0)]


# ---- every answer belongs to its command


def cut_into(size: int) -> Answer:
    """Answers the whole group at once, in pieces of so many octets: an answer for each RCPT, by its number."""

    async def answer(line: Line) -> None:
        await line.reader.readuntil(b"DATA\r\n")
        said = (
            b"250-2.1.0 sender\r\n250 2.1.0 ok\r\n550 5.1.1 no a\r\n250 b\r\n450-4.2.0 not\r\n450 4.2.0 c\r\n354 go\r\n"
        )
        for start in range(0, len(said), size):
            await line.send(said[start : start + size])
            await asyncio.sleep(0)
        await line.server.take_message(line)

    return answer


@pytest.mark.parametrize("size", [1, 2, 7, 16, 61, 1000])
async def test_answers_in_pieces_of_any_size(size: int) -> None:
    async with scripted(offers=PIPELINING, answers={"MAIL": cut_into(size)}) as server:
        outcome = await deliver(server, *THREE)
        assert outcome.accepted
        assert {index: str(failure.reply) for index, failure in outcome.refused.items()} == {
            0: "550 5.1.1 no a",
            2: "450 4.2.0 not c",
        }
        assert server.messages == [RAW]


@pytest.mark.parametrize("all_or_none", [False, True])
async def test_each_of_many_recipients_has_its_own_answer(all_or_none: bool) -> None:
    async def judge(line: Line) -> None:
        number = int(line.commands[-1].split("<r")[1].split("@")[0])
        await line.send(b"550 5.1.1 no r%d\r\n" % number if number % 7 == 6 else GOOD)

    async with scripted(offers=PIPELINING, answers={"RCPT": judge}) as server:
        outcome = await deliver(server, *addresses(230), all_or_none=all_or_none)
        named = {index: failure.reply.text for index, failure in outcome.refused.items()}
        last = 100 if all_or_none else 230  # a refusal among the first hundred: the others are not asked
        assert named == {index: f"no r{index}" for index in range(last) if index % 7 == 6}
        assert bool(outcome.accepted) is not all_or_none
        assert outcome.failure is (outcome.refused[6] if all_or_none else None)
        assert len(server.messages) == (0 if all_or_none else 1)
        assert server.verbs[0].count("DATA") == (0 if all_or_none else 1)


async def test_a_refused_sender_is_what_counts() -> None:
    answers = {
        "MAIL": [b"550 5.7.1 not you\r\n", GOOD],
        "RCPT": [b"503 5.5.1 no sender\r\n", GOOD],
        "DATA": [b"503 5.5.1 no sender\r\n", b"554 5.5.1 not now\r\n"],
    }
    async with scripted(offers=PIPELINING, answers=answers) as server, upstream() as way_out:
        outcome = await way_out.deliver(to(server))
        assert outcome.refused == {}
        failure = failure_of(outcome)
        assert (failure.phase, str(failure.reply), failure.meaning) == (
            Phase.MAIL,
            "550 5.7.1 not you",
            Meaning.REFUSED,
        )
        failure = failure_of(await way_out.deliver(to(server)))
        assert (failure.phase, failure.reply.code) == (Phase.DATA, 554)
        group = ["MAIL", "RCPT", "DATA"]
        # The connection is used again; in the end DATA is refused to somebody who was accepted, and that is proven.
        assert server.verbs == [["EHLO", *group, "RSET", *group, "EHLO"]]


async def test_a_refusal_at_data_is_about_the_message() -> None:
    answers = {"RCPT": [GOOD, b"550 5.1.1 no\r\n", GOOD], "DATA": b"451 4.3.0 later\r\n"}
    async with scripted(offers=PIPELINING, answers=answers) as server:
        outcome = await deliver(server, *THREE)
        failure = failure_of(outcome)
        assert (failure.phase, str(failure.reply)) == (Phase.DATA, "451 4.3.0 later")
        assert set(outcome.refused) == {1}


# ---- all refused


async def test_one_by_one_no_data_is_sent_when_all_are_refused() -> None:
    answers = {"RCPT": [b"550 5.1.1 a\r\n", b"550 5.1.1 b\r\n", b"450 4.2.0 c\r\n"]}
    async with scripted(answers=answers) as server:
        outcome = await deliver(server, *THREE)
        assert set(outcome.refused) == {0, 1, 2}
        assert outcome.failure is outcome.refused[0]
        assert "DATA" not in server.verbs[0]


@pytest.mark.parametrize("data", [b"503 5.5.1 nobody\r\n", b"554 5.5.1 nobody\r\n", b"451 4.5.1 nobody\r\n"])
async def test_when_all_are_refused_the_answer_to_data_says_nothing(data: bytes) -> None:
    answers = {"RCPT": [b"550 5.1.1 a\r\n", b"550 5.1.1 b\r\n", b"450 4.2.0 c\r\n", GOOD], "DATA": data}
    async with scripted(offers=PIPELINING, answers=answers) as server, upstream() as way_out:
        outcome = await way_out.deliver(to(server, *THREE))
        assert set(outcome.refused) == {0, 1, 2}
        assert outcome.failure is outcome.refused[0]
        await way_out.deliver(to(server))
        assert len(server.lines) == 1


@pytest.mark.parametrize("data", [Drop(), b"421 4.3.2 bye\r\n"])
async def test_when_all_are_refused_a_lost_answer_to_data_changes_nothing_for_them(data: Any) -> None:
    answers = {"RCPT": [b"550 5.1.1 a\r\n", b"550 5.1.1 b\r\n", b"450 4.2.0 c\r\n", GOOD], "DATA": data}
    async with scripted(offers=PIPELINING, answers=answers) as server, upstream() as way_out:
        outcome = await way_out.deliver(to(server, *THREE))
        assert set(outcome.refused) == {0, 1, 2}
        assert outcome.failure is outcome.refused[0]
        assert way_out.connections() == {}


@pytest.mark.parametrize("refusing", ["MAIL", "RCPT"])
async def test_an_unwanted_invitation_is_ended_by_closing(refusing: str) -> None:
    """RFC 2920 section 3.1. A lone dot would be a message for whoever the server thinks it has accepted."""
    rest = asyncio.get_running_loop().create_future()

    async def invite(line: Line) -> None:
        await line.send(INVITATION)
        rest.set_result(await line.reader.read())

    answers: dict[str, Any] = {refusing: b"550 5.7.1 no\r\n", "DATA": invite}
    async with scripted(offers=PIPELINING, answers=answers) as server, upstream() as way_out:
        failure = failure_of(await way_out.deliver(to(server)))
        assert (failure.phase, failure.reply.code) == (Phase(refusing.lower()), 550)
        assert await asyncio.wait_for(rest, 20) == b""
        assert way_out.connections() == {}


# ---- no room for more (452 4.5.3)

FULL = b"452 4.5.3 enough\r\n"


async def test_one_by_one_nobody_is_named_after_a_server_had_enough() -> None:
    async with scripted(answers={"RCPT": [GOOD, FULL, GOOD]}) as server:
        outcome = await deliver(server, *THREE)
        assert outcome.accepted
        assert set(outcome.refused) == {1, 2}
        assert all(failure.in_next_transaction for failure in outcome.refused.values())
        assert outcome.refused[2].meaning is Meaning.TEMPORARY
        assert server.verbs[0].count("RCPT") == 2


async def test_who_is_accepted_after_a_server_had_enough_has_the_message() -> None:
    """Its RCPT was on the way already. Naming it again in another transaction would send it twice."""
    async with scripted(offers=PIPELINING, answers={"RCPT": [GOOD, FULL, GOOD]}) as server:
        outcome = await deliver(server, *THREE)
        assert outcome.accepted
        assert set(outcome.refused) == {1}
        assert outcome.refused[1].in_next_transaction


async def test_no_further_group_leaves_after_a_server_had_enough() -> None:
    async with scripted(offers=PIPELINING, answers={"RCPT": [*[GOOD] * 60, FULL]}) as server:
        outcome = await deliver(server, *addresses(250))
        assert outcome.accepted
        assert set(outcome.refused) == set(range(60, 250))
        assert all(failure.in_next_transaction for failure in outcome.refused.values())
        assert server.verbs[0][1:] == ["MAIL", *["RCPT"] * 100, "DATA", "QUIT"]
        assert len(server.messages) == 1


# ---- what goes wrong in between

LOSSES: list[tuple[dict[str, Any], Phase, set[int]]] = [
    ({"MAIL": Drop()}, Phase.MAIL, set()),
    ({"MAIL": Drop(GOOD)}, Phase.RCPT, set()),
    ({"RCPT": [GOOD, Drop(b"550 5.1.1 no\r\n")]}, Phase.RCPT, {1}),
    ({"RCPT": [GOOD, b"550 5.1.1 no\r\n", Drop(GOOD)]}, Phase.DATA, {1}),
    ({"DATA": Drop()}, Phase.DATA, set()),
    ({"RCPT": [GOOD, stand_silent]}, Phase.RCPT, set()),
    ({"DATA": stand_silent}, Phase.DATA, set()),
    ({"RCPT": [GOOD, b"noise\r\n"]}, Phase.RCPT, set()),
    ({"RCPT": [GOOD, b"150 odd\r\n"]}, Phase.RCPT, set()),
]


@pytest.mark.parametrize(("answers", "phase", "refused"), LOSSES, ids=range(len(LOSSES)))
async def test_an_answer_that_is_missing_is_missing_at_its_command(
    answers: dict[str, Any], phase: Phase, refused: set[int]
) -> None:
    progress = Progress()
    async with scripted(offers=PIPELINING, answers=answers) as server, upstream() as way_out:
        outcome = await way_out.deliver(to(server, *THREE), progress)
        failure = failure_of(outcome)
        assert (failure.phase, failure.meaning, failure.from_server) == (phase, Meaning.TEMPORARY, False)
        assert set(outcome.refused) == refused
        assert not progress.final_dot_sent
        assert server.messages == []
        assert way_out.connections() == {}


@pytest.mark.parametrize("left_out", ["MAIL", "RCPT"])
async def test_a_server_that_leaves_an_answer_out_gets_no_message(left_out: str) -> None:
    """All answers behind it come one too early, and the invitation comes where there can be none."""
    async with scripted(offers=PIPELINING, answers={left_out: [SILENCE, GOOD]}) as server:
        outcome = await deliver(server, *THREE)
        failure = failure_of(outcome)
        assert (failure.phase, failure.reply.enhanced, failure.meaning) == (Phase.RCPT, "4.5.0", Meaning.TEMPORARY)
        assert server.messages == []


async def test_an_empty_line_between_two_answers_is_forgiven() -> None:
    answers = {"MAIL": b"250 ok\r\n\r\n", "RCPT": b"\r\n\n250 ok\r\n\r\n"}
    async with scripted(offers=PIPELINING, answers=answers) as server:
        assert (await deliver(server, *THREE)).accepted


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
async def test_a_sender_or_recipient_that_is_taken_for_data_ends_it_at_once(verb: str) -> None:
    """What of the group follows is a message to this server: it must not wait for its end, and never get one."""
    rest = asyncio.get_running_loop().create_future()

    async def invite(line: Line) -> None:
        await line.send(INVITATION)
        rest.set_result(await line.reader.read())

    async with scripted(offers=PIPELINING, answers={verb: invite}) as server, upstream(reply=5) as way_out:
        failure = failure_of(await way_out.deliver(to(server)))
        assert (failure.phase, failure.reply.enhanced) == (Phase(verb.lower()), "4.5.0")
        assert has_only(await asyncio.wait_for(rest, 20), "RCPT", "DATA")


@pytest.mark.parametrize("place", [0, 1])
async def test_after_a_421_nothing_more_is_waited_for(place: int) -> None:
    """Also where the server does not close at once (RFC 5321 section 3.8)."""
    answers: dict[str, Sequence[Answer]] = {"RCPT": [GOOD, b"421 4.7.0 too much\r\n", SILENCE], "DATA": [SILENCE]}
    if place == 0:
        answers = {"MAIL": [b"421 4.7.0 too much\r\n"], "RCPT": [SILENCE], "DATA": [SILENCE]}
    async with scripted(offers=PIPELINING, answers=answers) as server, upstream(reply=300) as way_out:
        failure = failure_of(await way_out.deliver(to(server, *THREE)))
        assert (str(failure.reply), failure.meaning) == ("421 4.7.0 too much", Meaning.THROTTLE)
        assert failure.phase is (Phase.RCPT if place else Phase.MAIL)
        assert way_out.connections() == {}


async def test_one_answer_too_many_is_not_taken_for_the_next() -> None:
    async with scripted(offers=PIPELINING, answers={"DATA": INVITATION + GOOD}) as server:
        progress = Progress()
        failure = failure_of(await deliver(server, progress=progress))
        assert (failure.phase, failure.meaning, failure.out_of_step) == (Phase.DATA, Meaning.TEMPORARY, True)
        assert not progress.final_dot_sent


async def test_each_answer_has_the_time_of_one() -> None:
    """A server that is slow with each recipient is not given up for their number."""

    async def slowly(line: Line) -> None:
        await asyncio.sleep(FAST.reply / 4)  # a slow server
        await line.send(GOOD)

    async with scripted(offers=PIPELINING, answers={"RCPT": slowly}) as server:
        started = time.monotonic()
        assert (await deliver(server, *addresses(6))).accepted
        assert time.monotonic() - started > FAST.reply


async def test_answers_larger_than_any_window_do_not_stop_both_sides() -> None:
    """This server reads nothing more while its answers have not left, and they do not fit into what TCP holds."""

    async def at_length(line: Line) -> None:
        line.writer.transport.set_write_buffer_limits(high=0)
        await line.send(b"250-%s\r\n" % (b"x" * 8000) * 3 + GOOD)

    class Narrow(ScriptedServer):
        async def talk(self, line: Line) -> None:
            channel = line.writer.get_extra_info("socket")
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                channel.setsockopt(socket.SOL_SOCKET, option, 4096)
            await super().talk(line)

    async with scripted(kind=Narrow, offers=PIPELINING, answers={"RCPT": at_length}) as server:
        outcome = await deliver(server, *addresses(300))
        assert outcome.accepted
        assert outcome.refused == {}


# ---- how far it is, and stopping it


async def test_the_phase_goes_on_with_every_answer() -> None:
    progress, seen = Progress(), []

    def look(answer: bytes) -> Answer:
        async def wait_a_moment(line: Line) -> None:
            await asyncio.sleep(0.02)  # a slow server
            seen.append((line.commands[-1][:4], progress.phase))
            await line.send(answer)
            if answer == INVITATION:
                await line.server.take_message(line)

        return wait_a_moment

    answers = {"MAIL": look(GOOD), "RCPT": look(GOOD), "DATA": look(INVITATION)}
    async with scripted(offers=PIPELINING, answers=answers) as server:
        assert (await deliver(server, *THREE[:2], progress=progress)).accepted
        assert seen == [("MAIL", Phase.MAIL), ("RCPT", Phase.RCPT), ("RCPT", Phase.RCPT), ("DATA", Phase.DATA)]


async def test_mail_is_counted_once_in_each_transaction() -> None:
    counted: list[int] = []

    async def count() -> None:
        counted.append(1)

    async with scripted(offers=PIPELINING) as server, upstream() as way_out:
        for _ in range(2):
            assert (await way_out.deliver(to(server, *addresses(150)), Progress(on_mail=count))).accepted
        assert counted == [1, 1]


async def test_mail_that_cannot_be_counted_does_not_leave() -> None:
    async def refuse() -> None:
        raise StoreError("the disk is full")

    async with scripted(offers=PIPELINING) as server, upstream() as way_out:
        with pytest.raises(StoreError):
            await way_out.deliver(to(server, *addresses(1)), Progress(on_mail=refuse))
        assert (await way_out.deliver(to(server, *addresses(1)), Progress())).accepted
        assert sum(verbs.count("MAIL") for verbs in server.verbs) == 1


@pytest.mark.parametrize("key", ["MAIL", "RCPT", "DATA"])
async def test_cancelling_in_the_middle_closes_and_sends_nothing(key: str) -> None:
    came, rest = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def hang(line: Line) -> None:
        came.set()
        rest.set_result(await line.reader.read())

    progress = Progress()
    async with scripted(offers=PIPELINING, answers={key: hang}) as server, upstream(reply=5) as way_out:
        task = asyncio.create_task(way_out.deliver(to(server), progress))
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not progress.final_dot_sent
        assert has_only(await asyncio.wait_for(rest, 20), "RCPT", "DATA")
        assert way_out.connections() == {}


async def test_what_the_server_cannot_take_is_not_begun() -> None:
    async with scripted(offers=("PIPELINING",)) as server:
        failure = failure_of(await deliver(server, content=Content("Subject: ü\r\n".encode())))
        assert str(failure.reply).startswith("554 5.6.3")
        assert server.verbs[0] == ["EHLO", "QUIT"]


# ---- a connection that was kept


@pytest.mark.parametrize("answer", [Drop(), Drop(b"421 4.4.2 idle too long\r\n"), b"noise\r\n"])
async def test_a_kept_connection_that_dies_at_the_group_is_replaced(answer: Any) -> None:
    async with scripted(offers=PIPELINING, answers={"MAIL": [GOOD, answer, GOOD]}) as server, upstream() as way_out:
        assert (await way_out.deliver(to(server))).accepted
        assert (await way_out.deliver(to(server))).accepted
        assert len(server.lines) == 2
        assert len(server.messages) == 2


@pytest.mark.parametrize("answer", [Drop(), b"500 5.5.1 what?\r\n", b"421 4.3.2 bye\r\n"])
async def test_a_reset_that_fails_is_not_about_the_message(answer: Any) -> None:
    answers: dict[str, Any] = {"DATA": [b"451 4.3.0 later\r\n"], "RSET": answer}
    async with scripted(offers=PIPELINING, answers=answers) as server, upstream() as way_out:
        assert (await way_out.deliver(to(server))).failure
        del server.answers["DATA"]  # type: ignore[attr-defined]
        assert (await way_out.deliver(to(server))).accepted
        assert len(server.lines) == 2
        assert len(server.messages) == 1


async def test_a_refused_sender_is_no_dead_connection_though_the_server_closes() -> None:
    answers: dict[str, Any] = {"MAIL": [GOOD, Drop(b"550 5.7.1 not you\r\n")]}
    async with scripted(offers=PIPELINING, answers=answers) as server, upstream() as way_out:
        assert (await way_out.deliver(to(server))).accepted
        failure = failure_of(await way_out.deliver(to(server)))
        assert (failure.phase, failure.reply.code) == (Phase.MAIL, 550)
        assert len(server.lines) == 1
