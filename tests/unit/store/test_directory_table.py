"""The directory's rows in both databases, beside the contract of what keeps a directory."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update

from relay.directory.database_storage import EntryStore, Row, Rows
from relay.store.db.database import Database, open_database
from relay.store.db.tables import directory, directory_entries
from relay.store.people.directory import DirectoryTable
from tests.unit.store.store_kit import StorePlace


@pytest.fixture
async def database(place: StorePlace) -> AsyncIterator[Database]:
    opened = await open_database(place)
    yield opened
    await opened.close()


@pytest.fixture
def table(database: Database) -> DirectoryTable:
    return DirectoryTable(database)


def agent(name: str, text: str | None = "{}") -> Row:
    return Row("agents", name, text)


async def written(table: EntryStore, *rows: Row) -> str:
    state = await table.write(await table.state(), rows)
    assert state is not None
    return state


async def test_nothing_is_there_at_first(table: DirectoryTable) -> None:
    assert await table.state() == ""
    assert await table.changed("") == Rows("", (), is_whole=True) or not (await table.changed("")).rows


async def test_who_has_read_nothing_gets_all_in_the_order_in_which_it_came(table: DirectoryTable) -> None:
    await written(table, agent("b"), agent("a"))
    state = await written(table, agent("c"), agent("b", '{"x": 1}'))
    assert await table.changed("") == Rows(state, [agent("b", '{"x": 1}'), agent("a"), agent("c")], is_whole=True)


async def test_who_has_read_something_gets_what_is_newer(table: DirectoryTable) -> None:
    first = await written(table, agent("a"), agent("b"))
    second = await written(table, agent("b", None), agent("c"))
    assert await table.changed(first) == Rows(second, [agent("b", None), agent("c")], is_whole=False)
    assert await table.changed(second) == Rows(second, (), is_whole=False)
    assert await table.changed("") == Rows(second, [agent("a"), agent("c")], is_whole=True)


async def test_who_has_not_seen_the_last_change_writes_nothing(table: DirectoryTable) -> None:
    assert await table.write("", [agent("a")]) is not None
    assert await table.write("", [agent("b")]) is None
    first = await table.state()
    second = await written(table, agent("b"))
    assert await table.write(first, [agent("c")]) is None
    assert await table.changed("") == Rows(second, [agent("a"), agent("b")], is_whole=True)


async def test_a_database_that_lacks_the_last_changes_is_read_anew(database: Database, table: DirectoryTable) -> None:
    """A replica took its place. Its next change has the number of the one that was lost."""
    await written(table, agent("a"))
    old = await database.read(lambda c: c.execute(select(directory.c.number, directory.c.changes)).one())
    lost = await written(table, agent("b"))
    await database.write(lambda c: c.execute(update(directory).values(number=old.number, changes=old.changes)))
    await database.write(lambda c: c.execute(directory_entries.delete().where(directory_entries.c.name == "b")))
    state = await written(table, agent("c"))
    assert await table.changed(lost) == Rows(state, [agent("a"), agent("c")], is_whole=True)


async def test_what_is_gone_is_forgotten_when_nobody_asks_for_it_any_more(
    database: Database, table: DirectoryTable
) -> None:
    first = await written(table, agent("a"), agent("b"))
    await written(table, agent("a", None))
    for number in range(98):
        await written(table, agent("b", str(number)))
    found = await table.changed(first)
    assert (set(found.rows), found.is_whole) == ({agent("a", None), agent("b", "97")}, False)
    state = await written(table, agent("b"))
    assert await table.changed(first) == Rows(state, [agent("b")], is_whole=True)
    for number in range(100):
        await written(table, agent("b", str(number)))
    names = await database.read(lambda c: c.execute(select(directory_entries.c.name)).scalars().all())
    assert names == ["b"]


async def test_very_many_rows(table: DirectoryTable) -> None:
    rows = [agent(f"a{number:05}") for number in range(3000)]
    state = await written(table, *rows)
    assert await table.changed("") == Rows(state, rows, is_whole=True)
