"""The outbox: what waits for a webhook, in what order, and what becomes of it."""

from datetime import timedelta

import pytest

from relay.store.db.database import Database, open_database
from relay.store.queue.messages import NewEvent
from relay.store.queue.outbox import Backlog, Outbox, WebhookState, insert_events
from tests.unit.store.store_kit import MINUTE, NOW, StorePlace

CRM, BI = "https://crm.example/h", "https://bi.example/h"


@pytest.fixture
async def database(place: StorePlace):  # type: ignore[no-untyped-def]
    opened = await open_database(place)
    yield opened
    await opened.close()


async def written(database: Database, *events: tuple[str, str, int], webhook: str = CRM) -> Outbox:
    """Write events: (id, message, how many minutes after NOW)."""
    rows = [NewEvent(id_, webhook, message, NOW + at * MINUTE, "{}") for id_, message, at in events]
    await database.write(lambda c: insert_events(c, rows))
    return Outbox(database)


async def due(outbox: Outbox, minutes: int = 60, limit: int = 10, url: str = CRM) -> list[str]:
    return [one.id for one in await outbox.due(url, NOW + minutes * MINUTE, limit)]


async def number_of(outbox: Outbox, id_: str) -> int:
    return next(one.number for one in await outbox.due(CRM, NOW + 60 * MINUTE, 100) if one.id == id_)


async def test_what_happened_first_is_told_first_and_each_webhook_has_its_own(database: Database) -> None:
    outbox = await written(database, ("a", "m1", 0), ("b", "m2", 1), ("c", "m3", 2))
    await written(database, ("d", "m1", 0), webhook=BI)
    assert await due(outbox) == ["a", "b", "c"]
    assert await due(outbox, limit=2) == ["a", "b"]
    assert await due(outbox, minutes=1) == ["a", "b"]
    assert await due(outbox, url=BI) == ["d"]


async def test_of_a_message_only_the_first_event_is_told(database: Database) -> None:
    outbox = await written(database, ("a", "m1", 0), ("b", "m1", 1), ("c", "m2", 2))
    assert await due(outbox) == ["a", "c"]
    first = await number_of(outbox, "a")
    await outbox.put_off(first, NOW + 50 * MINUTE, "503")
    assert await due(outbox, minutes=40) == ["c"], "what is behind waits with it"
    (again,) = [one for one in await outbox.due(CRM, NOW + 60 * MINUTE, 10) if one.id == "a"]
    assert again.attempts == 1
    await outbox.told([first], NOW)
    assert await due(outbox) == ["b", "c"]


async def test_what_was_told_can_be_told_again(database: Database) -> None:
    outbox = await written(database, ("a", "m1", 0), ("b", "m2", 5), ("c", "m3", 9))
    await outbox.told([one.number for one in await outbox.due(CRM, NOW + 60 * MINUTE, 10)], NOW)
    assert await due(outbox) == []
    assert await outbox.replay([BI], NOW, NOW + 10 * MINUTE) == 0
    assert await outbox.replay([CRM], NOW + 5 * MINUTE, NOW + 10 * MINUTE) == 2
    assert await outbox.replay([CRM], NOW + 5 * MINUTE, NOW + 10 * MINUTE) == 0, "it waits already"
    assert await due(outbox) == ["b", "c"]


async def test_what_nobody_took_is_held_and_shown_and_replay_frees_it(database: Database) -> None:
    outbox = await written(database, ("a", "m1", 0), ("b", "m1", 1), ("c", "m2", 5))
    assert await outbox.backlogs() == {CRM: Backlog(waiting=3, oldest=NOW, held=0)}
    assert await outbox.hold_older(CRM, NOW + 2 * MINUTE, "no answer") == 2
    assert await outbox.backlogs() == {CRM: Backlog(waiting=1, oldest=NOW + 5 * MINUTE, held=2)}
    assert await due(outbox) == ["c"]
    await outbox.put_off(await number_of(outbox, "c"), None, "404")
    assert await outbox.backlogs() == {CRM: Backlog(held=3)}
    assert await outbox.replay([CRM], NOW, NOW) == 3
    assert await due(outbox) == ["a", "c"], "in the order in which they happened"


async def test_a_webhook_that_is_back_is_told_all_at_once(database: Database) -> None:
    outbox = await written(database, ("a", "m1", 0), ("b", "m2", 1))
    for id_ in ("a", "b"):
        await outbox.put_off(await number_of(outbox, id_), NOW + 600 * MINUTE, "away")
    await outbox.make_due(CRM, NOW + 2 * MINUTE)
    assert await due(outbox) == ["a", "b"]


async def test_what_is_old_is_forgotten_and_what_waits_is_kept_longer(database: Database) -> None:
    outbox = await written(database, ("a", "m1", 0), ("b", "m2", 1), ("c", "m3", 30))
    await outbox.told([await number_of(outbox, "a")], NOW)
    before = {"told_before": NOW + 10 * MINUTE, "all_before": NOW}
    assert await outbox.forget(**before) == 1
    assert await due(outbox) == ["b", "c"]
    assert await outbox.forget(told_before=NOW + 10 * MINUTE, all_before=NOW + 10 * MINUTE) == 1
    assert await due(outbox) == ["c"]


async def test_how_a_webhook_answers_is_kept(database: Database) -> None:
    outbox = Outbox(database)
    assert await outbox.states() == {}
    failing = WebhookState(url=CRM, failures=2, since=NOW, next_attempt=NOW + timedelta(hours=1), reason="503 später")
    well = WebhookState(url=BI, delivered=NOW)
    for one in (failing, well, failing):
        await outbox.put_state(one)
    assert await outbox.states() == {CRM: failing, BI: well}
