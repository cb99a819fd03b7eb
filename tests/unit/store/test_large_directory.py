"""Ten thousand agents in PostgreSQL: what one relay changes is soon in effect at another, and holds up no message.

What counts is processor time, of which other processes of the machine take nothing away.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from relay.directory.edit import set_profile
from relay.directory.keeper import Document
from relay.directory.live import LiveDirectory
from relay.directory.model import ProfileKind
from relay.settings import load_settings
from relay.store.bulletin import Bulletin
from relay.store.database import open_database
from relay.store.directory import kept_by
from relay.store.topics import Topic
from tests.peers import postgres as peer
from tests.peers.postgres import Postgres
from tests.unit.store.store_kit import in_postgres

pytestmark = [pytest.mark.needs(*peer.NEEDS), pytest.mark.slow]
AGENTS = 10_000
_PAUSE = 0.001  # waiting gives the turn away, as a message does that waits for the network


def fill(document: Document) -> None:
    document["default_server"] = "acmejets"
    document["servers"] = {"acmejets": {"host": "smtp.a.example", "username": "mailer@a.example"}}
    document["agents"] = {
        f"a{n}": {"address": f"a{n}@a.example", "aliases": [f"b{n}@a.example"], "group": f"g{n % 50}"}
        for n in range(AGENTS)
    }


def regroup(group: str) -> Callable[[Document], None]:
    return lambda document: set_profile(document, ProfileKind.AGENT, "a77", {"group": group})


@pytest.fixture
async def two(postgres: Postgres, empty: str) -> AsyncIterator[tuple[LiveDirectory, LiveDirectory]]:
    """Who changes, and who follows."""
    place = in_postgres(postgres, postgres.new_database(like=empty))
    settings = replace(load_settings(None, {}), directory="database")
    one, other = await open_database(place), await open_database(place)
    changing = await LiveDirectory.open(settings, "relay.toml", keep=kept_by(settings, one))
    await changing.change(fill)
    following = await LiveDirectory.open(settings, "relay.toml", keep=kept_by(settings, other))
    bulletin = Bulletin(other)
    bulletin.on(Topic.DIRECTORY, following.follow)
    task = asyncio.create_task(bulletin.run())
    yield changing, following
    task.cancel()
    await asyncio.wait({task})
    await one.close()
    await other.close()


async def test_a_change_is_soon_in_effect_and_holds_up_no_message(two: tuple[LiveDirectory, LiveDirectory]) -> None:
    one, other = two
    begun, longest, last = time.process_time(), 0.0, _others()
    changing = asyncio.create_task(one.change(regroup("new")))
    while other.routing().directory.agents["a77"].group != "new":
        await asyncio.sleep(_PAUSE)
        now = _others()
        longest, last = max(longest, now - last), now
    used = time.process_time() - begun
    await changing
    assert used < 2
    assert longest < 0.1


async def test_what_is_the_same_is_not_read_again(two: tuple[LiveDirectory, LiveDirectory]) -> None:
    one, other = two
    before = other.routing().directory
    await one.change(regroup("new"))
    await other.follow()
    after = other.routing().directory
    others = [name for name in after.agents if after.agents[name] is not before.agents[name]]
    assert others == ["a77"]


def _others() -> float:
    """The processor time of all threads but the loop's."""
    return time.process_time() - time.thread_time()
