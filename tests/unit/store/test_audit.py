"""The audit in the store: what is kept, found and forgotten."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.store.db.database import Database, open_database
from relay.store.people.access import forget_outdated
from relay.store.people.audit import AuditEntry, AuditSearch, AuditTable
from tests.peers.rows import each_row
from tests.unit.store.store_kit import StorePlace

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
DAY = timedelta(days=1)


def entry(**facts: Any) -> AuditEntry:
    default: dict[str, Any] = {
        "at": NOW,
        "who": "ada",
        "role": "administrator",
        "way": "page",
        "peer": "::1",
        "operation": "channel.set",
        "what": "support",
        "changes": '[{"key": "channels.support.address", "old": "a@b.example", "new": "Ü@b.example"}]',
    }
    return AuditEntry(**(default | facts))


@pytest.fixture
async def database(place: StorePlace) -> AsyncIterator[Database]:
    database = await open_database(place)
    yield database
    await database.close()


@pytest.fixture
async def table(database: Database) -> AuditTable:
    table = AuditTable(database)
    await table.add(entry())
    await table.add(entry(at=NOW + DAY, who="bob", operation="channel.add", what="sales", changes="[]"))
    await table.add(entry(at=NOW + 2 * DAY, way="file", operation="directory", what="", changes="[]"))
    return table


async def test_an_entry_comes_back_as_it_was(table: AuditTable) -> None:
    (kept,) = await table.find(AuditSearch(what="support"), limit=10)
    assert kept == entry(id=kept.id)


@each_row(
    ("search", "whats"),
    [
        ({}, ["", "sales", "support"]),
        ({"who": "ada"}, ["", "support"]),
        ({"operation": "channel"}, ["sales", "support"]),
        ({"operation": "channel.add"}, ["sales"]),
        ({"operation": "chan"}, []),
        ({"since": NOW + DAY}, ["", "sales"]),
        ({"until": NOW + DAY}, ["support"]),
        ({"contains": "A@B.EXAMPLE"}, ["support"]),
        ({"contains": "Ü@"}, ["support"]),
        ({"contains": "bob"}, ["sales"]),
        ({"contains": "%"}, []),
        ({"contains": "ü@b"}, ["support"]),
        ({"who": "ada", "operation": "channel", "contains": "support"}, ["support"]),
    ],
)
async def test_a_search_finds_what_is_meant_the_newest_first(
    table: AuditTable, search: dict[str, Any], whats: list[str]
) -> None:
    found = await table.find(AuditSearch(**search), limit=10)
    assert [one.what for one in found] == whats


async def test_what_an_entry_says_is_found_as_people_type_it(table: AuditTable) -> None:
    changes = json.dumps([{"key": "full_name", "old": "", "new": 'jörg "The Boss" O\\Neil'}], ensure_ascii=False)
    await table.add(entry(way="api", peer="192.0.2.7", what="x", changes=changes))
    for text in ("JÖRG", '"the boss" o\\neil', "api", "192.0.2."):
        assert [one.what for one in await table.find(AuditSearch(contains=text), limit=10)] == ["x"], text


async def test_pages_follow_each_other(table: AuditTable) -> None:
    first = await table.find(AuditSearch(), limit=2)
    rest = await table.find(AuditSearch(), limit=2, before=first[-1].id)
    assert [one.what for one in (*first, *rest)] == ["", "sales", "support"]


async def test_names_that_no_database_takes_are_kept_with_question_marks(table: AuditTable) -> None:
    await table.add(entry(what="a\udcff\0b"))
    assert (await table.find(AuditSearch(), limit=1))[0].what == "a??b"


async def test_what_is_older_than_400_days_is_forgotten(database: Database, table: AuditTable) -> None:
    await forget_outdated(database, NOW + 401 * DAY)
    assert [one.what for one in await table.find(AuditSearch(), limit=10)] == ["", "sales"]
