"""The nodes in a store: who is there, what each does, and that no two have one name or one id."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import BigInteger, type_coerce, update

from relay.store.cluster.leases import LEAD, LeaseTable
from relay.store.cluster.nodes import Doing, Node, NodeState, NodeTable, NodeTaken
from relay.store.db.database import Database, open_database
from relay.store.db.tables import nodes
from tests.peers.postgres import NEEDS
from tests.unit.store.store_kit import StorePlace

ONE, TWO = Node(name="one", id="1111"), Node(name="two", id="2222")
BUSY = Doing(state=NodeState.DRAINING, workers=3, clients=14, messages=5)
SHARED = pytest.mark.parametrize("place", [pytest.param("postgresql", marks=pytest.mark.needs(*NEEDS))], indirect=True)


@pytest.fixture
async def database(place: StorePlace) -> AsyncIterator[Database]:
    async with AsyncExitStack() as stack:
        opened = await open_database(place)
        stack.push_async_callback(opened.close)
        yield opened


async def let_pass(database: Database, seconds: int) -> None:
    """Let it be longer ago that all nodes were seen."""
    earlier = type_coerce(nodes.c.seen, BigInteger) - seconds * 1_000_000
    await database.write(lambda c: c.execute(update(nodes).values(seen=earlier)))


async def names(table: NodeTable) -> list[str]:
    return [row.node.name for row in await table.rows()]


async def test_a_node_says_what_it_does(database: Database) -> None:
    table = NodeTable(database)
    await table.enter(ONE, "1.0", Doing())
    (row,) = await table.rows()
    assert (row.node, row.version, row.doing, row.drain, row.is_live) == (ONE, "1.0", Doing(), False, True)
    assert row.since == row.seen
    await table.say(ONE, "1.0", BUSY)
    (later,) = await table.rows()
    assert (later.doing, later.since) == (BUSY, row.since)
    assert later.seen > row.seen
    await let_pass(database, 15)
    assert [row.is_live for row in await table.rows()] == [True]
    await let_pass(database, 6)
    (silent,) = await table.rows()
    assert not silent.is_live
    assert 20 < silent.silent_seconds < 60
    await table.leave(ONE)
    assert await table.rows() == ()
    await table.say(ONE, "1.0", BUSY)  # it was forgotten, and lives
    assert await names(table) == ["one"]


async def test_who_is_to_be_drained_is_said_by_anybody_until_it_begins_anew(database: Database) -> None:
    table = NodeTable(database)
    await table.enter(ONE, "1.0", Doing())
    assert not await table.drain("two", is_wanted=True)
    assert await table.drain("one", is_wanted=True)
    await table.say(ONE, "1.0", BUSY)
    assert [row.drain for row in await table.rows()] == [True]
    assert await table.drain("one", is_wanted=False)
    assert [row.drain for row in await table.rows()] == [False]
    await table.drain("one", is_wanted=True)
    await table.enter(ONE, "1.1", Doing())
    assert [(row.drain, row.version) for row in await table.rows()] == [(False, "1.1")]


@SHARED
async def test_no_two_nodes_that_live_have_one_name(database: Database) -> None:
    table = NodeTable(database)
    await table.enter(ONE, "1.0", Doing())
    await table.enter(TWO, "1.0", Doing())
    await table.enter(ONE, "1.0", Doing())  # the same one again, as after a kill
    other = Node(name="one", id="3333")
    with pytest.raises(NodeTaken, match=r"^another relay uses this store as the node 'one' \(.*node = \"NAME\"$"):
        await table.enter(other, "1.0", Doing())
    await table.say(other, "1.0", BUSY)
    await table.leave(other)
    assert {row.node: row.doing for row in await table.rows()} == {ONE: Doing(), TWO: Doing()}
    await let_pass(database, 21)
    await table.enter(other, "1.0", Doing())
    assert {row.node for row in await table.rows()} == {other, TWO}
    await table.say(ONE, "1.0", BUSY)  # it was stopped, and comes back
    assert {row.node for row in await table.rows()} == {other, TWO}


@SHARED
async def test_a_state_dir_that_was_copied_is_found(database: Database) -> None:
    table = NodeTable(database)
    await table.enter(ONE, "1.0", Doing())
    with pytest.raises(
        NodeTaken, match=r"^the node 'one' .* has the id of this one, 'copy': .*remove the file node.id"
    ):
        await table.enter(Node(name="copy", id=ONE.id), "1.0", Doing())


@SHARED
async def test_who_ended_without_a_word_may_hold_something_for_longer_than_it_counts_as_live(
    database: Database,
) -> None:
    """Stopped, or cut off, it may have connections open at providers."""
    table = NodeTable(database)
    await table.enter(ONE, "1.0", Doing())
    for seconds, found in ((0, (True, True)), (60, (False, True)), (800, (False, True)), (60, (False, False))):
        await let_pass(database, seconds)
        assert [(row.is_live, row.may_hold) for row in await table.rows()] == [found]


@SHARED
async def test_who_ended_without_a_word_is_listed_for_a_week(database: Database) -> None:
    table = NodeTable(database)
    await table.enter(ONE, "1.0", Doing())
    await let_pass(database, 6 * 86400)
    await table.enter(TWO, "1.0", Doing())
    assert await names(table) == ["one", "two"]
    await let_pass(database, 2 * 86400)
    await table.enter(TWO, "1.0", Doing())
    assert await names(table) == ["two"]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_file_has_one_node_whatever_it_was_called_before(database: Database) -> None:
    """It may be a copy from another machine."""
    table = NodeTable(database)
    await table.enter(ONE, "1.0", Doing())
    await table.enter(TWO, "1.0", Doing())
    await table.enter(Node(name="two", id="3333"), "1.0", Doing())
    assert [row.node for row in await table.rows()] == [Node(name="two", id="3333")]


@SHARED
async def test_who_leads_is_listed_for_as_long_as_it_has_the_duty(database: Database) -> None:
    table = NodeTable(database)

    async def leading() -> list[str]:
        return [row.node.name for row in await table.rows() if row.leads]

    for node in (ONE, TWO):
        await table.enter(node, "1.0", Doing())
    assert await leading() == []
    first, second = (LeaseTable(database, f"{node.id}/run/0/1") for node in (ONE, TWO))
    lease = await first.take(LEAD, 60)
    assert lease is not None
    assert await first.take("token/oauth/server/acme", 60) is not None
    assert await second.take("token/oauth/server/other", 60) is not None
    assert await leading() == ["one"]
    await first.give_up(lease)
    assert await leading() == []
    assert await second.take(LEAD, 60) is not None
    assert await leading() == ["two"]
    assert await second.take(LEAD, 0.2) is not None
    async with asyncio.timeout(10):
        while await leading():  # noqa: ASYNC110  the clock of the database
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_the_only_node_of_a_file_leads(database: Database) -> None:
    table = NodeTable(database)
    await table.enter(ONE, "1.0", Doing())
    assert [row.leads for row in await table.rows()] == [True]
