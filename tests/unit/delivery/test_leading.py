"""What one process of all does with mail, as the lead comes and goes: probes, lifted holds, strays, the deletion."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.delivery import maintenance
from relay.delivery.maintenance import Maintenance
from relay.delivery.outcome import State
from relay.delivery.queue_runner import QueueRunner
from relay.mail.reply import Reply
from relay.store.cluster.leases import LeaseTable, NamedLease
from relay.system.clock import utc_now
from relay.upstream.outcome import Outcome
from tests.peers.moments import a_while
from tests.unit.delivery.bench_kit import DeliveryKit
from tests.unit.delivery.delivery_kit import ACCOUNT, NO_LOGIN, reached, state_of, stored, upstream_of
from tests.unit.secrets.oauth_kit import Clock

ACCEPTED = Outcome(host="127.0.0.1", accepted=Reply(250, "2.0.0", "Ok"))


@dataclass
class Switch:
    """A lead that a test gives and takes."""

    is_ours: bool = False
    lease: NamedLease | None = None


@asynccontextmanager
async def dispatching(delivery: DeliveryKit, lead: Switch) -> AsyncIterator[QueueRunner]:
    delivery.attempts.lead = lead
    runner = QueueRunner(delivery.attempts)
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        await runner.stop()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def hold(delivery: DeliveryKit) -> str:
    """Hold the account, whose next probe is due at once, and return a message that waits for it."""
    upstream_of(delivery).outcome = Outcome(host="127.0.0.1", failure=NO_LOGIN)
    async with dispatching(delivery, Switch(is_ours=True)) as runner:
        id_ = await stored(delivery)
        runner.wake()
        await reached(delivery, id_, State.HELD)
    delivery.recorder.clock = lambda: utc_now() + timedelta(minutes=20)
    return id_


async def some_looks(runner: QueueRunner) -> None:
    for _ in range(3):
        runner.wake()
        await asyncio.sleep(0.05)  # it looks and finds nothing, of which nobody is told


async def test_a_held_account_is_probed_by_who_leads_as_soon_as_it_does(delivery: DeliveryKit) -> None:
    id_, upstream = await hold(delivery), upstream_of(delivery)
    tried = len(upstream.transfers)
    lead = Switch()
    async with dispatching(delivery, lead) as runner:
        await some_looks(runner)
        assert len(upstream.transfers) == tried
        lead.is_ours = True
        upstream.outcome = ACCEPTED
        runner.lead_changed()
        await reached(delivery, id_, State.DELIVERED)
    assert len(upstream.transfers) == tried + 1


async def test_a_probe_that_was_due_before_the_lead_went_is_not_made(delivery: DeliveryKit) -> None:
    """As by a relay that was stopped between its decision and the login."""
    await hold(delivery)
    lead = delivery.attempts.lead = Switch(is_ours=True)
    runner = QueueRunner(delivery.attempts)
    (held,) = delivery.accounts.holds()
    delivery.accounts.begin_probe(held, delivery.clock())
    lead.is_ours = False
    route = delivery.attempts.routing().route_of_account(ACCOUNT)
    assert route is not None
    assert delivery.attempts.hold_over(route, None) is not None
    lead.is_ours = True
    assert delivery.attempts.hold_over(route, None) is None, "the same, while it leads"
    delivery.accounts.begin_probe(held, delivery.clock())
    lead.is_ours = False
    runner.lead_changed()
    lead.is_ours = True
    assert delivery.attempts.hold_over(route, None) is not None, "nothing of the former lead is left"


async def test_the_store_refuses_the_probe_of_who_does_not_know_yet_that_another_leads(delivery: DeliveryKit) -> None:
    id_, upstream = await hold(delivery), upstream_of(delivery)
    tried, clock = len(upstream.transfers), Clock()
    ours, theirs = (LeaseTable(delivery.queue._database, name, clock=clock) for name in ("ours", "theirs"))
    lead = Switch(is_ours=True, lease=await ours.take("lead", 15))
    clock.forward(16)
    assert await theirs.take("lead", 15) is not None
    async with dispatching(delivery, lead) as runner:
        await some_looks(runner)
    assert len(upstream.transfers) == tried
    assert await state_of(delivery, id_) == State.HELD
    assert [row.probes for row in await delivery.queue.holds()] == [0]


async def test_strays_are_freed_by_who_leads(delivery: DeliveryKit) -> None:
    """Of an account that nobody holds any more."""
    await hold(delivery)
    await delivery.queue.drop_hold(ACCOUNT.server, ACCOUNT.username, "")
    delivery.accounts.release(ACCOUNT.server, ACCOUNT.username)
    upstream_of(delivery).outcome = ACCEPTED
    lead = Switch()
    async with dispatching(delivery, lead) as runner:
        await some_looks(runner)
        assert len(await delivery.queue.held_for()) == 1
        lead.is_ours = True
        runner.lead_changed()
        async with asyncio.timeout(10):
            while await delivery.queue.held_for():  # noqa: ASYNC110  the store knows no event
                await asyncio.sleep(0.01)


async def test_what_is_old_is_deleted_by_who_leads(
    delivery: DeliveryKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_LOOK_SECONDS", 0.01)
    forgotten: list[datetime] = []

    async def forget(now: datetime) -> None:
        forgotten.append(now)

    lead = Switch()
    keeping = Maintenance(delivery.queue, tmp_path, free_floor=0, keep_seconds=1, forget=forget, lead=lead)
    task = asyncio.create_task(keeping.run())
    await a_while(0.1)
    assert forgotten == []
    lead.is_ours = True
    async with asyncio.timeout(10):
        while not forgotten:  # noqa: ASYNC110 - it is asked again and again
            await asyncio.sleep(0.01)
    await a_while(0.1)
    assert len(forgotten) == 1, "once an hour"
    assert forgotten[0] <= datetime.now(UTC)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
