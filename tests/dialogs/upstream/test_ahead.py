"""Connections that are opened while messages wait: who comes first is served by what is free first, and every opening
is of use to the next. Never more than the limits allow, and never before a login has worked.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from relay.directory.model import Account, Auth, Meaning
from relay.upstream.outcome import Phase
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Progress, Transfer
from tests.dialogs.upstream.upstream_kit import (
    FAST,
    Counting,
    Line,
    ScriptedServer,
    scripted,
    server_at,
    transfer_to,
    until,
)
from tests.peers.moments import a_while

pytestmark = pytest.mark.timeout(60)
WELCOME, GOOD = b"235 2.7.0 welcome\r\n", b"250 2.0.0 ok\r\n"


@asynccontextmanager
async def upstream(**timeouts: float) -> AsyncIterator[Upstream]:
    way_out = Upstream("relay.example", replace(FAST, **{"reply": 5, "final": 5, **timeouts}))
    yield way_out
    await way_out.aclose()


def to(server: ScriptedServer, account: str = "mailer", **settings: Any) -> Transfer:
    settings = {"auth": Auth.PLAIN, "max_connections": 4, **settings}
    return transfer_to(server_at(server.port, **settings), account=Account("acme", account))


class Door:
    """Answers logins after the first one only when it is opened."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.arrived = 0

    async def ask(self, line: Line) -> None:
        self.arrived += 1
        if self.arrived > 1:
            await self.is_open.wait()
        await line.send(WELCOME)


async def test_no_message_waits_for_a_login_while_others_end() -> None:
    """One connection works, the logins of the others hang: all messages leave through the one."""
    door = Door()
    async with scripted(answers={"AUTH": door.ask}) as server, upstream() as way_out:
        assert (await way_out.deliver(to(server))).accepted
        outcomes = await asyncio.gather(*(way_out.deliver(to(server)) for _ in range(12)))
        assert all(outcome.accepted for outcome in outcomes)
        assert [verbs.count("DATA") for verbs in server.verbs if "MAIL" in verbs] == [13]
        assert 2 <= len(server.lines) <= 4
        door.is_open.set()


async def test_what_was_opened_ahead_is_used_next() -> None:
    door, gate = Door(), asyncio.Event()

    async def hold(line: Line) -> None:
        if len(line.server.messages) > 4:
            await gate.wait()
        await line.send(GOOD)

    async with scripted(answers={"AUTH": door.ask, ".": hold}) as server, upstream() as way_out:
        assert (await way_out.deliver(to(server))).accepted
        await asyncio.gather(*(way_out.deliver(to(server)) for _ in range(3)))
        opened = len(server.lines)
        door.is_open.set()
        await until(lambda: way_out.connections() == {Account("acme", "mailer"): opened} and not way_out._opening)
        later = [asyncio.create_task(way_out.deliver(to(server))) for _ in range(opened)]
        await until(lambda: len(server.messages) == 4 + opened)
        assert len(server.lines) == opened, "nobody logged in anew"
        gate.set()
        assert all(outcome.accepted for outcome in await asyncio.gather(*later))


async def test_nothing_is_opened_ahead_before_a_login_has_worked() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def hang(line: Line) -> None:
        asked.set()
        await answer.wait()
        await line.send(WELCOME)

    async with scripted(answers={"AUTH": hang}) as server, upstream() as way_out:
        tasks = [asyncio.create_task(way_out.deliver(to(server))) for _ in range(10)]
        await asked.wait()
        await a_while(0.05)
        assert len(server.lines) == 1
        answer.set()
        assert all(outcome.accepted for outcome in await asyncio.gather(*tasks))
        assert len(server.lines) <= 4


async def test_nothing_is_opened_for_an_account_whose_login_is_refused() -> None:
    """The caller holds it then, and asks for nothing more; of those who wait already, nobody tries again."""
    async with scripted(answers={"AUTH": [WELCOME, b"535 5.7.8 no\r\n"]}) as server, upstream() as way_out:
        assert (await way_out.deliver(to(server, max_messages_per_connection=1))).accepted
        tasks = [way_out.deliver(to(server, max_messages_per_connection=1)) for _ in range(20)]
        outcomes = await asyncio.gather(*tasks)
        meanings = {outcome.failure and outcome.failure.meaning for outcome in outcomes}
        assert meanings == {Meaning.LOGIN_REFUSED}
        refused = len(server.lines) - 1
        assert refused <= 4, "as many as were under way at once"
        await a_while(0.05)
        assert len(server.lines) == 1 + refused


async def test_an_opening_that_fails_is_told_to_one_who_waits() -> None:
    gate = asyncio.Event()

    async def hold(line: Line) -> None:
        if len(line.server.messages) > 1:
            await gate.wait()
        await line.send(GOOD)

    greetings = [b"220 hello\r\n", b"421 4.7.0 too many connections\r\n"]
    async with scripted(answers={"greeting": greetings, ".": hold}) as server, upstream() as way_out:
        assert (await way_out.deliver(to(server))).accepted
        busy = asyncio.create_task(way_out.deliver(to(server)))
        await until(lambda: len(server.messages) == 2)
        progress = Progress()
        failure = (await way_out.deliver(to(server), progress)).failure
        assert failure is not None
        assert (failure.phase, failure.meaning) == (Phase.GREETING, Meaning.THROTTLE)
        assert progress.phase is Phase.GREETING
        gate.set()
        assert (await busy).accepted


async def test_an_opening_that_fails_is_nobodys_where_nobody_waits_any_more() -> None:
    door = Door()

    async def refuse(line: Line) -> None:
        if line is line.server.lines[0]:
            await line.send(WELCOME)
        else:
            await door.is_open.wait()
            line.drop()

    async with scripted(answers={"AUTH": refuse}) as server, upstream() as way_out:
        assert (await way_out.deliver(to(server))).accepted
        outcomes = await asyncio.gather(*(way_out.deliver(to(server)) for _ in range(6)))
        door.is_open.set()
        await until(lambda: not way_out._opening)
        assert all(outcome.accepted for outcome in outcomes)
        assert way_out.connections() == {Account("acme", "mailer"): 1}
        assert (await way_out.deliver(to(server))).accepted


async def test_who_is_served_otherwise_is_not_told_of_the_opening_that_it_began() -> None:
    door = Door()
    async with scripted(answers={"AUTH": door.ask}) as server, upstream() as way_out:
        assert (await way_out.deliver(to(server))).accepted
        all_ = [Progress() for _ in range(4)]
        await asyncio.gather(*(way_out.deliver(to(server), progress) for progress in all_))
        door.is_open.set()
        await until(lambda: not way_out._opening)
        assert {(progress.phase, progress.final_dot_sent) for progress in all_} == {(Phase.FINAL, True)}


@pytest.mark.parametrize("is_shared", [False, True])
async def test_no_more_are_open_than_the_limit_whatever_happens(is_shared: bool) -> None:
    """Messages of some accounts come, are cancelled, and end in any order; connections do their share and go."""
    dice, most = random.Random(4711), 0

    async def dawdle(line: Line) -> None:
        nonlocal most
        await asyncio.sleep(dice.random() / 200)  # the pace of a server
        # Not those that the client has closed, though this server has not come to see it.
        readers = [each.reader for each in line.server.lines]
        most = max(most, sum(not (reader._eof or reader.exception()) for reader in readers))  # type: ignore[attr-defined]
        await line.send(WELCOME if line.commands[-1].startswith("AUTH") else GOOD)

    async with scripted(answers={"AUTH": dawdle, ".": dawdle}) as server, upstream() as way_out:
        settings = {"max_connections": 3, "max_messages_per_connection": 4, "shared_limits": is_shared}
        tasks = []
        for number in range(150):
            account = f"user{number % 3}" if is_shared else "mailer"
            tasks.append(asyncio.create_task(way_out.deliver(to(server, account, **settings))))
            if dice.random() < 0.2:
                asyncio.get_running_loop().call_later(dice.random() / 20, tasks[-1].cancel)
            await asyncio.sleep(dice.random() / 500)  # the pace of clients
        await asyncio.wait(tasks)
        assert all(task.result().accepted for task in tasks if not task.cancelled())
        assert sum(not task.cancelled() for task in tasks) > 100
        assert 1 < most <= 3
        await way_out.aclose()
        await until(lambda: not way_out._homes)
        assert (way_out._pools, way_out._slots, way_out._opening) == ({}, {}, set())


async def test_what_one_account_opened_ahead_makes_room_for_another() -> None:
    """All accounts of this server share two connections; nobody waits until what lies idle is too old."""
    door = Door()
    async with scripted(kind=Counting, answers={"AUTH": door.ask}) as server, upstream(idle=60) as way_out:
        assert isinstance(server, Counting)
        settings = {"max_connections": 2, "shared_limits": True}
        assert (await way_out.deliver(to(server, "one", **settings))).accepted
        both = [asyncio.create_task(way_out.deliver(to(server, "one", **settings))) for _ in range(2)]
        await asyncio.wait(both)
        assert len(server.lines) == 2, "the second one hangs at its login, and its message left through the first"
        others = [asyncio.create_task(way_out.deliver(to(server, "two", **settings))) for _ in range(2)]
        await until(lambda: way_out.connections().get(Account("acme", "one"), 0) == 0)
        door.is_open.set()
        assert all(outcome.accepted for outcome in await asyncio.gather(*others))
        assert server.most <= 2


async def test_a_cancelled_message_ends_the_opening_that_it_began() -> None:
    door = Door()
    async with scripted(answers={"AUTH": door.ask}) as server, upstream() as way_out:
        assert (await way_out.deliver(to(server, max_messages_per_connection=1))).accepted
        task = asyncio.create_task(way_out.deliver(to(server)))
        await until(lambda: door.arrived == 2)
        task.cancel()
        await asyncio.wait({task})
        assert way_out.connections() == {}
        door.is_open.set()
        async with asyncio.timeout(20):
            await asyncio.wait(server.tasks)
        assert server.verbs[1] == ["EHLO", "AUTH"]


async def test_the_end_does_not_wait_for_what_is_opened_for_nobody() -> None:
    door = Door()
    async with scripted(answers={"AUTH": door.ask}) as server:
        way_out = Upstream("relay.example", replace(FAST, reply=60))
        assert (await way_out.deliver(to(server))).accepted
        await asyncio.gather(*(way_out.deliver(to(server)) for _ in range(4)))
        assert way_out._opening
        async with asyncio.timeout(20):
            await way_out.aclose()
        assert (way_out._opening, way_out.connections()) == (set(), {})


async def test_a_refused_login_is_met_once_by_messages_that_come_at_every_moment() -> None:
    """Each comes one step of the event loop later, until the account is held, as the caller does it."""
    async with scripted(answers={"AUTH": b"535 5.7.8 no\r\n"}) as server, upstream() as way_out:
        is_held = False

        async def send(steps: int) -> None:
            nonlocal is_held
            for _ in range(steps):
                await asyncio.sleep(0)
            if not is_held:
                failure = (await way_out.deliver(to(server))).failure
                assert failure is not None
                assert failure.meaning is Meaning.LOGIN_REFUSED
                is_held = True

        await asyncio.gather(*(send(steps) for steps in range(400)))
        assert is_held
        assert sum(verbs.count("AUTH") for verbs in server.verbs) == 1


async def test_who_gets_the_connection_of_another_keeps_the_own_gate() -> None:
    """A second login ends before the first, so that each of two messages uses what was opened for the other."""
    first_login, mails = asyncio.Event(), asyncio.Event()
    logins: list[Line] = []

    async def log_in(line: Line) -> None:
        logins.append(line)
        if len(logins) == 2:
            await first_login.wait()
        await line.send(WELCOME)

    async def hear_mail(line: Line) -> None:
        if line.server.messages:
            await mails.wait()
        await line.send(GOOD)

    passed: list[int] = []

    def progress_of(number: int) -> Progress:
        async def gate() -> None:
            passed.append(number)

        return Progress(before_final_dot=gate)

    async with scripted(answers={"AUTH": log_in, "MAIL": hear_mail}) as server, upstream() as way_out:
        await way_out.deliver(to(server))
        progresses = [progress_of(number) for number in range(3)]
        busy = [asyncio.create_task(way_out.deliver(to(server), progresses[0]))]
        await until(lambda: server.verbs[0].count("MAIL") == 2)
        for progress in progresses[1:]:
            before = len(logins)
            busy.append(asyncio.create_task(way_out.deliver(to(server), progress)))
            await until(lambda: len(logins) > before)  # noqa: B023  it is awaited here
        await until(lambda: "MAIL" in server.verbs[2])
        first_login.set()
        await until(lambda: "MAIL" in server.verbs[1])
        mails.set()
        assert all([(await task).accepted for task in busy])
        assert sorted(passed) == [0, 1, 2]
        assert all(progress.final_dot_sent for progress in progresses)
