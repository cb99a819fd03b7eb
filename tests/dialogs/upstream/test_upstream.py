"""The pool: connections are reused, limited, closed when idle, replaced quietly, and never shared between accounts."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from relay.directory.model import Account, Auth, Meaning
from relay.mail.address import Address, AddressError
from relay.mail.content import Content
from relay.secrets.secret import Secret
from relay.upstream.outcome import Phase
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Transfer
from tests.dialogs.upstream.upstream_kit import (
    FAST,
    RAW,
    Drop,
    Line,
    ScriptedServer,
    scripted,
    server_at,
    transfer_to,
    until,
)

pytestmark = pytest.mark.timeout(60)
GOOD = b"250 2.0.0 ok\r\n"


@asynccontextmanager
async def upstream(**timeouts: float) -> AsyncIterator[Upstream]:
    way_out = Upstream("relay.example", replace(FAST, **timeouts))
    yield way_out
    await way_out.aclose()


def to(server: ScriptedServer, *recipients: str, **settings: Any) -> Transfer:
    return transfer_to(server_at(server.port, **settings), *recipients)


async def closed_by_us(server: ScriptedServer, count: int) -> None:
    """Wait until so many connections have ended."""
    async with asyncio.timeout(20):
        for task in server.tasks[:count]:
            await asyncio.wait([task])


async def test_a_connection_is_used_again_without_rset() -> None:
    async with scripted() as server, upstream() as way_out:
        for _ in range(3):
            assert (await way_out.deliver(to(server))).accepted
        assert way_out.connections() == {Account("acme", "mailer"): 1}
        assert server.verbs == [["EHLO", *["MAIL", "RCPT", "DATA"] * 3]]
        assert server.messages == [RAW] * 3


async def test_rset_only_after_a_transaction_that_did_not_end() -> None:
    answers = {"RCPT": [b"550 5.1.1 no\r\n", GOOD], ".": [b"451 4.3.0 later\r\n", GOOD]}
    async with scripted(answers=answers) as server, upstream() as way_out:
        outcomes = [await way_out.deliver(to(server)) for _ in range(4)]
        assert [bool(outcome.accepted) for outcome in outcomes] == [False, False, True, True]
        assert server.verbs == [
            ["EHLO", "MAIL", "RCPT", "RSET", *["MAIL", "RCPT", "DATA"], "RSET", *["MAIL", "RCPT", "DATA"] * 2]
        ]


async def test_a_connection_has_its_share_of_messages() -> None:
    async with scripted() as server, upstream() as way_out:
        for _ in range(5):
            await way_out.deliver(to(server, max_messages_per_connection=2))
        await closed_by_us(server, 2)
        assert [verbs.count("DATA") for verbs in server.verbs] == [2, 2, 1]
        assert [verbs[-1] for verbs in server.verbs] == ["QUIT", "QUIT", "DATA"]


async def test_an_unused_connection_is_closed_with_quit() -> None:
    async with scripted() as server, upstream(idle=0.05) as way_out:
        await way_out.deliver(to(server))
        await closed_by_us(server, 1)
        assert server.verbs[0][-1] == "QUIT"
        assert way_out.connections() == {}
        assert not way_out._pools
        assert not way_out._current


async def test_the_connection_used_last_is_used_next() -> None:
    gate = asyncio.Event()

    async def wait(line: Line) -> None:
        if len(line.server.lines) < 2 or line is line.server.lines[0]:
            await gate.wait()
        await line.send(GOOD)
        gate.set()

    async with scripted(answers={".": wait}) as server, upstream() as way_out:
        await asyncio.gather(way_out.deliver(to(server)), way_out.deliver(to(server)))
        assert len(server.lines) == 2
        for _ in range(3):
            await way_out.deliver(to(server))
        assert sorted(verbs.count("DATA") for verbs in server.verbs) == [1, 4]


async def test_fifty_at_once_keep_to_the_limit_and_arrive_once_each() -> None:
    open_now, most = 0, 0

    async def count(line: Line) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0)
        open_now -= 1
        await line.send(GOOD)

    async with scripted(answers={".": count}) as server, upstream() as way_out:
        transfers = [to(server, f"r{number}@there.example", max_connections=4) for number in range(50)]
        outcomes = await asyncio.gather(*map(way_out.deliver, transfers))
        assert all(outcome.accepted for outcome in outcomes)
        assert len(server.lines) == 4
        assert most <= 4
        named = [command for commands in server.commands for command in commands if command.startswith("RCPT")]
        assert sorted(named) == sorted(f"RCPT TO:<r{number}@there.example>" for number in range(50))
        assert len(server.messages) == 50


async def test_who_waits_first_is_served_first() -> None:
    async with scripted() as server, upstream() as way_out:
        transfers = [to(server, f"r{number}@there.example", max_connections=1) for number in range(10)]
        await asyncio.gather(*map(way_out.deliver, transfers))
        named = [command for command in server.commands[0] if command.startswith("RCPT")]
        assert named == [f"RCPT TO:<r{number}@there.example>" for number in range(10)]


async def test_a_cancelled_wait_holds_nobody_up() -> None:
    gate = asyncio.Event()
    came = asyncio.Event()

    async def wait(line: Line) -> None:
        came.set()
        await gate.wait()
        await line.send(GOOD)

    async with scripted(answers={".": wait}) as server, upstream(final=5) as way_out:
        tasks = [asyncio.create_task(way_out.deliver(to(server, max_connections=1))) for _ in range(4)]
        await came.wait()
        tasks[1].cancel()
        tasks[2].cancel()
        gate.set()
        with suppress(asyncio.CancelledError):
            await tasks[1]
        assert (await tasks[0]).accepted
        assert (await tasks[3]).accepted
        assert tasks[1].cancelled()
        assert tasks[2].cancelled()
        assert len(server.lines) == 1
        assert len(server.messages) == 2


async def test_a_turn_that_comes_together_with_a_cancel_is_not_lost() -> None:
    async with scripted() as server, upstream() as way_out:
        for _ in range(30):
            tasks = [asyncio.create_task(way_out.deliver(to(server, max_connections=1))) for _ in range(3)]
            tasks[0].add_done_callback(lambda _, waiting=tasks[1]: waiting.cancel())  # type: ignore[misc]
            await asyncio.wait(tasks)
            assert tasks[2].result().accepted
        pool = next(iter(way_out._pools.values()))
        assert pool.in_use == 0


async def test_a_raised_limit_lets_those_in_who_wait() -> None:
    gate = asyncio.Event()

    async def wait(line: Line) -> None:
        await gate.wait()
        await line.send(GOOD)

    async with scripted(answers={".": wait}) as server, upstream(final=5) as way_out:
        tasks = [asyncio.create_task(way_out.deliver(to(server, max_connections=1))) for _ in range(3)]
        tasks.append(asyncio.create_task(way_out.deliver(to(server, max_connections=4))))
        await until(lambda: len(server.lines) == 4)
        gate.set()
        assert all(outcome.accepted for outcome in await asyncio.gather(*tasks))


# ---- whose connection it is


async def test_no_connection_is_shared_between_accounts() -> None:
    async with scripted() as server, upstream() as way_out:
        transfers = []
        for number in range(40):
            name = f"user{number % 8}"
            transfer = transfer_to(
                server_at(server.port, auth=Auth.PLAIN, max_connections=2),
                account=Account("acme", name),
                sender=Address.parse(f"{name}@acme.example"),
                secret=Secret("word of " + name, "1"),
            )
            transfers.append(transfer)
        outcomes = await asyncio.gather(*map(way_out.deliver, transfers))
        assert all(outcome.accepted for outcome in outcomes)
        for commands in server.commands:
            user, word = base64.b64decode(commands[1].split(" ")[2]).decode().split("\0")[1:]
            assert word == "word of " + user
            senders = {command.split(" ")[1] for command in commands if command.startswith("MAIL")}
            assert senders == {f"FROM:<{user}@acme.example>"}


async def test_a_new_secret_gets_a_new_connection_and_the_old_one_is_closed() -> None:
    async with scripted() as server, upstream() as way_out:
        first = transfer_to(server_at(server.port, auth=Auth.PLAIN), secret=Secret("old", "1"))
        await way_out.deliver(first)
        await way_out.deliver(replace(first, secret=Secret("new", "2")))
        await closed_by_us(server, 1)
        words = [base64.b64decode(commands[1].split(" ")[2]).decode().split("\0")[2] for commands in server.commands]
        assert words == ["old", "new"]
        assert server.verbs[0][-1] == "QUIT"
        assert way_out.connections() == {first.account: 1}


async def test_a_connection_with_the_old_secret_is_closed_when_it_comes_back() -> None:
    gate = asyncio.Event()

    async def wait_for_first(line: Line) -> None:
        if line is line.server.lines[0]:
            await gate.wait()
        await line.send(GOOD)

    async with scripted(answers={".": wait_for_first}) as server, upstream(final=5) as way_out:
        first = transfer_to(server_at(server.port, auth=Auth.PLAIN), secret=Secret("old", "1"))
        slow = asyncio.create_task(way_out.deliver(first))
        await until(lambda: server.messages)
        await way_out.deliver(replace(first, secret=Secret("new", "2")))
        gate.set()
        assert (await slow).accepted
        await closed_by_us(server, 1)
        assert way_out.connections() == {first.account: 1}


@pytest.mark.parametrize(
    "change",
    [{"name": "other"}, {"username": "other"}, {"auth": Auth.LOGIN}, {"verify_tls": False}, {"host": "localhost"}],
)
async def test_changed_settings_get_a_new_connection(change: dict[str, Any]) -> None:
    answers = {"auth": [b"334 UGFzc3dvcmQ6\r\n", b"235 in\r\n"]}
    async with scripted(answers=answers) as server, upstream() as way_out:

        async def login(line: Line) -> None:
            await line.send(b"334 \r\n" if line.commands[-1] == "AUTH LOGIN" else b"235 in\r\n")

        server.answers = {**answers, "AUTH": login}
        await way_out.deliver(to(server, auth=Auth.PLAIN))
        assert (await way_out.deliver(to(server, **{"auth": Auth.PLAIN} | change))).accepted
        assert len(server.lines) == 2


async def test_limits_and_rules_may_change_on_an_open_connection() -> None:
    async with scripted() as server, upstream() as way_out:
        await way_out.deliver(to(server))
        failure = (await way_out.deliver(to(server, message_size=5))).failure
        assert failure is not None
        assert failure.reply.code == 552
        assert len(server.lines) == 1


# ---- idle connections that the server closed


@pytest.mark.parametrize("last_words", [b"", b"421 4.4.2 idle too long\r\n", b"noise\r\n"])
async def test_an_idle_connection_that_the_server_closed_is_replaced_quietly(last_words: bytes) -> None:
    async with scripted(answers={".": [Drop(GOOD + last_words), GOOD]}) as server, upstream() as way_out:
        assert (await way_out.deliver(to(server))).accepted
        await closed_by_us(server, 1)
        assert (await way_out.deliver(to(server))).accepted
        assert len(server.lines) == 2
        assert len(server.messages) == 2


async def test_what_an_idle_server_says_ends_its_connection() -> None:
    async with scripted() as server, upstream() as way_out:
        await way_out.deliver(to(server))
        await server.lines[0].send(b"421 4.3.2 stopping soon\r\n")
        idle = next(iter(next(iter(way_out._pools.values()))._idle))
        await until(lambda: not idle.is_usable)
        assert (await way_out.deliver(to(server))).accepted
        assert [verbs.count("MAIL") for verbs in server.verbs] == [1, 1]


@pytest.mark.parametrize("answer", [Drop(), Drop(b"421 4.4.2 idle too long\r\n"), b"noise\r\n"])
async def test_a_reused_connection_that_dies_at_mail_is_replaced(answer: Any) -> None:
    async with scripted(answers={"MAIL": [GOOD, answer, GOOD]}) as server, upstream() as way_out:
        assert (await way_out.deliver(to(server))).accepted
        assert (await way_out.deliver(to(server))).accepted
        assert len(server.lines) == 2
        assert len(server.messages) == 2


@pytest.mark.parametrize("answer", [Drop(), b"500 5.5.1 what?\r\n", b"421 4.3.2 bye\r\n"])
async def test_a_rset_that_fails_is_not_about_the_message(answer: Any) -> None:
    answers = {"RCPT": [b"550 5.1.1 no\r\n", GOOD], "RSET": answer}
    async with scripted(answers=answers) as server, upstream() as way_out:
        await way_out.deliver(to(server))
        assert (await way_out.deliver(to(server))).accepted
        assert [verbs[-1] for verbs in server.verbs] == ["RSET", "DATA"]


async def test_it_is_replaced_once_only() -> None:
    answers = {"MAIL": [GOOD, Drop(), Drop(b"421 4.7.0 no more today\r\n"), GOOD]}
    async with scripted(answers=answers) as server, upstream() as way_out:
        await way_out.deliver(to(server))
        failure = (await way_out.deliver(to(server))).failure
        assert failure is not None
        assert (str(failure.reply), failure.meaning) == ("421 4.7.0 no more today", Meaning.THROTTLE)
        assert len(server.lines) == 2


async def test_a_refusal_at_mail_is_no_dead_connection() -> None:
    async with scripted(answers={"MAIL": [GOOD, b"550 5.7.1 no\r\n"]}) as server, upstream() as way_out:
        await way_out.deliver(to(server))
        failure = (await way_out.deliver(to(server))).failure
        assert failure is not None
        assert failure.reply.code == 550
        assert len(server.lines) == 1


@pytest.mark.parametrize("verb", ["RCPT", "DATA"])
async def test_a_connection_that_dies_after_mail_is_not_replaced(verb: str) -> None:
    default = b"354 go on\r\n" if verb == "DATA" else GOOD

    async def drop_second(line: Line) -> None:
        if len(line.server.messages) == 1:
            line.drop()
            return
        await line.send(default)
        if verb == "DATA":
            await line.server.take_message(line)

    async with scripted(answers={verb: drop_second}) as server, upstream() as way_out:
        await way_out.deliver(to(server))
        failure = (await way_out.deliver(to(server))).failure
        assert failure is not None
        assert (failure.phase, failure.meaning) == (Phase(verb.lower()), Meaning.TEMPORARY)
        assert len(server.lines) == 1


# ---- failing to connect, and the end


async def test_a_failed_login_is_one_login_and_keeps_nothing_open() -> None:
    async with scripted(answers={"AUTH": b"535 5.7.8 no\r\n"}) as server, upstream() as way_out:
        failure = (await way_out.deliver(to(server, auth=Auth.PLAIN))).failure
        assert failure is not None
        assert (failure.phase, failure.meaning) == (Phase.LOGIN, Meaning.LOGIN_REFUSED)
        await closed_by_us(server, 1)
        assert server.verbs == [["EHLO", "AUTH", "QUIT"]]
        assert way_out.connections() == {}


async def test_a_wrong_password_is_tried_once_however_many_wait() -> None:
    async with scripted(answers={"AUTH": b"535 5.7.8 no\r\n"}) as server, upstream() as way_out:
        outcomes = await asyncio.gather(*(way_out.deliver(to(server, auth=Auth.PLAIN)) for _ in range(20)))
        assert {outcome.failure and outcome.failure.meaning for outcome in outcomes} == {Meaning.LOGIN_REFUSED}
        assert len(server.lines) == 1
        later = await way_out.deliver(to(server, auth=Auth.PLAIN))
        assert later.failure is not None
        assert len(server.lines) == 2, "who comes after the refusal tries for itself: the caller holds the account"


async def test_closing_says_quit_everywhere_and_lets_the_busy_one_finish() -> None:
    gate = asyncio.Event()

    async def wait(line: Line) -> None:
        if len(line.server.messages) > 1:
            await gate.wait()
        await line.send(GOOD)

    async with scripted(answers={".": wait}) as server:
        way_out = Upstream("relay.example", replace(FAST, final=5))
        other = transfer_to(server_at(server.port), account=Account("acme", "other"))
        await way_out.deliver(to(server))
        busy = asyncio.create_task(way_out.deliver(other))
        await until(lambda: len(server.messages) == 2)
        await way_out.aclose()
        assert server.verbs[0][-1] == "QUIT"
        gate.set()
        assert (await busy).accepted
        await closed_by_us(server, 2)
        assert way_out.connections() == {}


async def test_a_server_that_does_not_say_good_bye_is_left() -> None:
    async def silent(line: Line) -> None:
        await line.reader.read()

    async with scripted(answers={"QUIT": silent}) as server:
        way_out = Upstream("relay.example", replace(FAST, quit=0.05))
        await way_out.deliver(to(server))
        async with asyncio.timeout(20):
            await way_out.aclose()


def test_our_name_must_be_one() -> None:
    with pytest.raises(AddressError):
        Upstream("not a name")
    assert Upstream("Relay.Bücher.example")._hello == "relay.xn--bcher-kva.example"


async def test_an_unforeseen_error_frees_the_connection() -> None:
    class Broken(Content):
        @property
        def size(self) -> int:
            raise RuntimeError("a bug of ours")

    async with scripted() as server, upstream() as way_out:
        for _ in range(3):
            with pytest.raises(RuntimeError):
                await way_out.deliver(replace(to(server, max_connections=1), content=Broken(b"")))
        assert way_out.connections() == {}
        async with asyncio.timeout(20):
            await asyncio.wait(server.tasks)
