"""A directory in rows: what is read of them, and what becomes of changes that others make meanwhile."""

import json
import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from relay.config.faults import Faults
from relay.config.settings import load_settings
from relay.directory.database_storage import DatabaseStorage, Row
from relay.directory.directory import Directory
from relay.directory.document import Document
from relay.directory.edit import remove_entry, set_entry
from relay.directory.kinds import AGENT
from relay.directory.live import LiveDirectory
from relay.directory.rules.validation import parse_directory
from relay.directory.storage import ChangeRefused, DirectoryChanged, Snapshot
from relay.directory.values import EditRefused
from tests.unit.directory.directory_kit import HOUSE
from tests.unit.directory.memory_rows import Away, MemoryRows

TABLES = tomllib.loads(HOUSE)
UNREAD = Snapshot(Directory(), None)


@pytest.fixture
def memory() -> MemoryRows:
    made = MemoryRows()
    made.put_tables(TABLES)
    return made


async def live_on(memory: MemoryRows) -> LiveDirectory:
    return await LiveDirectory.open(
        load_settings(None, {}), "relay.toml", storage=lambda check: DatabaseStorage(memory, check)
    )


def set_jane(**values: Any) -> Callable[[Document], None]:
    return lambda document: set_entry(document, AGENT, "jane", values)


def jane(group: str) -> Row:
    return Row("agents", "jane", json.dumps({**TABLES["agents"]["jane"], "group": group}))


async def test_only_what_changed_is_read_again(memory: MemoryRows) -> None:
    keeper = DatabaseStorage(memory)
    before = (await keeper.read()).directory
    assert (before, memory.given) == (parse_directory(TABLES), 7)
    memory.put(jane("other"))
    after = (await keeper.read()).directory
    assert memory.given == 8
    assert after.agents["jane"].group == "other"
    assert after.channels["news"] is before.channels["news"], "its row is the same"
    await keeper.change(set_jane(role="agent"), must_exist=True, known=UNREAD)
    assert memory.given == 8
    assert (await keeper.read()).directory.servers["custom"] is before.servers["custom"]
    assert memory.given == 8


async def test_who_was_slower_changes_what_the_other_one_made(memory: MemoryRows) -> None:
    keeper = DatabaseStorage(memory)
    await keeper.read()
    others = iter([jane("other")])

    def be_faster() -> None:
        for row in others:
            memory.put(row)

    memory.before_write = be_faster
    done = await keeper.change(set_jane(role="agent"), must_exist=True, known=UNREAD)
    assert (done.directory.agents["jane"].group, done.directory.agents["jane"].role) == ("other", "agent")
    assert done.before is not None
    assert (done.before.agents["jane"].group, done.before.agents["jane"].role) == ("other", "")


async def test_who_was_slower_may_have_nothing_to_change_any_more(memory: MemoryRows) -> None:
    keeper = DatabaseStorage(memory)
    memory.before_write = lambda: memory.put(Row("agents", "jane", None))
    with pytest.raises(EditRefused, match="there is no agent 'jane'"):
        await keeper.change(set_jane(role="agent"), must_exist=True, known=UNREAD)


async def test_who_is_always_slower_is_refused(memory: MemoryRows) -> None:
    memory.before_write = lambda: memory.put(jane(str(memory.number)))
    with pytest.raises(DirectoryChanged) as caught:
        await DatabaseStorage(memory).change(set_jane(role="agent"), must_exist=True, known=UNREAD)
    sentence = "the directory in memory was changed by somebody else; look at it and try again"
    assert str(caught.value) == sentence


async def test_a_change_that_changes_nothing_writes_nothing(memory: MemoryRows) -> None:
    number = memory.number
    done = await DatabaseStorage(memory).change(set_jane(group="sales"), must_exist=True, known=UNREAD)
    assert memory.number == number
    assert done.directory == parse_directory(TABLES)


async def test_what_is_no_json_is_a_fault(memory: MemoryRows) -> None:
    live = await live_on(memory)
    memory.put(Row("channels", "news", "{broken"), Row("surprises", "x", "{}"))
    await live.refresh()
    assert [(fault.file, fault.key) for fault in live.faults] == [
        ("the directory in memory", "channels.news"),
        ("the directory in memory", "surprises"),
    ]
    assert "news" in live.routing().directory.channels, "the last good one is in effect"
    memory.put(Row("channels", "news", None), Row("surprises", "x", None))
    await live.refresh()
    assert live.faults == ()
    assert "news" not in live.routing().directory.channels


async def test_a_bad_one_at_the_start_is_refused(memory: MemoryRows) -> None:
    memory.put(Row("agents", "jane", '{"address": "nobody"}'))
    with pytest.raises(Faults, match=r"the directory in memory: agents\.jane\.address"):
        await live_on(memory)


async def test_where_it_is_away_the_one_in_effect_stays(memory: MemoryRows) -> None:
    live = await live_on(memory)
    routing = live.routing()
    memory.is_away = True
    await live.refresh()
    await live.reload()
    assert live.routing() is routing
    assert live.faults == ()
    with pytest.raises(Away):
        await live.follow()
    with pytest.raises(Away):
        await live.change(set_jane(group="x"))
    memory.is_away = False
    memory.put(jane("other"))
    await live.follow()
    assert live.routing().directory.agents["jane"].group == "other"


async def test_where_it_goes_away_in_the_middle_it_is_read_later(memory: MemoryRows) -> None:
    live = await live_on(memory)
    memory.put(jane("other"))
    memory.goes_away = True
    await live.refresh()
    memory.goes_away = False
    await live.refresh()
    assert live.routing().directory.agents["jane"].group == "other"


async def test_one_that_vanishes_keeps_the_last_one(memory: MemoryRows) -> None:
    live = await live_on(memory)
    memory.rows.clear()
    memory.number = 0
    await live.refresh()
    assert "the directory in memory: it has vanished; the one before stays in effect" in str(live.faults[0])
    assert "jane" in live.routing().directory.agents
    with pytest.raises(ChangeRefused, match="has vanished; put it back: relay directory import"):
        await live.change(lambda document: remove_entry(document, AGENT, "jane"))


async def test_a_change_by_another_relay_is_no_edit_of_a_person_here(memory: MemoryRows) -> None:
    live = await live_on(memory)
    told: list[bool] = []
    live.on_edit = lambda before, after, *, by_hand: told.append(by_hand)
    memory.put(jane("other"))
    await live.refresh()
    assert told == []
    await live.change(set_jane(group="mine"))
    assert told == [False]
