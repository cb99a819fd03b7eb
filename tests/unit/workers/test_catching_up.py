"""What a worker follows of the others."""

import asyncio
from datetime import UTC, datetime

import pytest

from relay.config.settings import Delivery
from relay.delivery.holds import Accounts
from relay.delivery.schedule import Schedule
from relay.directory.model import Account, Meaning, Server
from relay.mail.reply import Reply
from relay.store.db.errors import StoreError
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.workers import catching_up
from relay.workers.catching_up import CatchingUp, share_pauses, share_server_health, shared_failures
from tests.unit.workers.workers_kit import several, until

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
SERVER, JANE = Server(name="acmejets", host="h", max_connections=8), Account("acmejets", "jane")
SLOWER = Failure(phase=Phase.MAIL, reply=Reply(432, "4.3.2", "slower"), meaning=Meaning.THROTTLE, from_server=True)
AWAY = Failure(
    phase=Phase.CONNECT, reply=Reply(451, "4.4.1", "away"), meaning=Meaning.TEMPORARY, from_server=False, detail="cut"
)


def accounts() -> Accounts:
    return Accounts(Schedule.of(Delivery()))


async def test_a_look_comes_at_once_where_somebody_asks_for_it_and_outlives_a_broken_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catching_up, "_SECONDS", 60.0)
    async with several(2) as (one, two):
        looks = asyncio.Queue[int]()

        async def fail() -> None:
            raise StoreError("the store is away")

        async def look() -> None:
            looks.put_nowait(1)

        task = asyncio.create_task(CatchingUp(two, (fail, look)).run())
        await looks.get()
        for _ in range(3):
            one.look()
            async with asyncio.timeout(20):  # a minute is what it takes without
                await looks.get()
        task.cancel()


async def test_pauses_and_servers_that_are_away_are_known_to_all() -> None:
    async with several(2) as (one, two):
        here, there = accounts(), accounts()
        for siblings, known in ((one, here), (two, there)):
            share_pauses(siblings, known)
            share_server_health(siblings, known.servers)
        pause = here.slow_down(SERVER, JANE, SLOWER, NOW)
        here.servers.note("acmejets", Outcome(host="h", failure=AWAY), lambda: NOW)
        await until(lambda: bool(there.servers.unreached(NOW)))
        assert there.slowness_of(JANE, NOW) == pause
        assert there.servers.unreached(NOW) == here.servers.unreached(NOW)
        there.release("acmejets", "jane")
        there.servers.note("acmejets", Outcome(host="h", accepted=Reply(250, "2.0.0", "Ok")), lambda: NOW)
        await until(lambda: not here.servers.unreached(NOW))
        assert here.slowness_of(JANE, NOW) is None


async def test_bad_logins_are_known_to_all() -> None:
    async with several(2) as (one, two):
        here, there = shared_failures(one, 3), shared_failures(two, 3)
        for _ in range(3):
            here.add("10.0.0.1")
        await until(lambda: there.is_barred("10.0.0.1"))
        there.forget("10.0.0.1")
        await until(lambda: not here.is_barred("10.0.0.1"))
