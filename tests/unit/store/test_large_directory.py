"""Ten thousand agents in PostgreSQL: a change by one relay is in effect at another, and nothing else is read again.

What it costs, and how long the loop waits, is measured by `make bench LOADS=size`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from relay.config.settings import load_settings
from relay.directory.document import Document
from relay.directory.edit import set_entry
from relay.directory.kinds import AGENT
from relay.directory.live import LiveDirectory
from relay.store.cluster.change_notifications import ChangeNotifications
from relay.store.db.database import Topic, open_database
from relay.store.people.directory import storage_of
from tests.peers import postgres as peer
from tests.peers.postgres import Postgres
from tests.unit.store.store_kit import in_postgres

pytestmark = [pytest.mark.needs(*peer.NEEDS), pytest.mark.slow]
AGENTS = 10_000


def fill(document: Document) -> None:
    document["default_server"] = "acmejets"
    document["servers"] = {"acmejets": {"host": "smtp.a.example", "username": "mailer@a.example"}}
    document["agents"] = {
        f"a{n}": {"address": f"a{n}@a.example", "aliases": [f"b{n}@a.example"], "group": f"g{n % 50}"}
        for n in range(AGENTS)
    }


def regroup(group: str) -> Callable[[Document], None]:
    return lambda document: set_entry(document, AGENT, "a77", {"group": group})


@pytest.fixture
async def two(postgres: Postgres, empty: str) -> AsyncIterator[tuple[LiveDirectory, LiveDirectory]]:
    """Who changes, and who follows."""
    place = in_postgres(postgres, postgres.new_database(like=empty))
    settings = replace(load_settings(None, {}), directory="database")
    one, other = await open_database(place), await open_database(place)
    changing = await LiveDirectory.open(settings, "relay.toml", storage=storage_of(settings, one))
    await changing.change(fill)
    following = await LiveDirectory.open(settings, "relay.toml", storage=storage_of(settings, other))
    bulletin = ChangeNotifications(other)
    bulletin.on(Topic.DIRECTORY, following.follow)
    task = asyncio.create_task(bulletin.run())
    yield changing, following
    task.cancel()
    await asyncio.wait({task})
    await one.close()
    await other.close()


async def test_a_change_is_in_effect_at_the_other(two: tuple[LiveDirectory, LiveDirectory]) -> None:
    one, other = two
    await one.change(regroup("new"))
    async with asyncio.timeout(30):
        while other.routing().directory.agents["a77"].group != "new":  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


async def test_what_is_the_same_is_not_read_again(two: tuple[LiveDirectory, LiveDirectory]) -> None:
    one, other = two
    before = other.routing().directory
    await one.change(regroup("new"))
    await other.follow()
    after = other.routing().directory
    others = [name for name in after.agents if after.agents[name] is not before.agents[name]]
    assert others == ["a77"]
