"""Administrators, sessions, invitations and tokens in the store."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, union_all

from relay.store.db.database import Database, open_database
from relay.store.db.tables import invitations, sessions
from relay.store.people.access import (
    Administrator,
    Administrators,
    ApiToken,
    ApiTokens,
    InvitationRow,
    Invitations,
    LastAdministrator,
    PageSession,
    PageSessions,
    forget_outdated,
)
from tests.unit.store.store_kit import StorePlace

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
HOUR = timedelta(hours=1)
INVITED = InvitationRow(digest="d1", kind="agent", name="jane", role="agent", created=NOW, expires=NOW + HOUR)
SIGNED_IN = PageSession(
    digest="s1", kind="agent", name="jane", role="agent", form_key="k", created=NOW, seen=NOW, expires=NOW + HOUR
)


@pytest.fixture
async def database(place: StorePlace) -> AsyncIterator[Database]:
    database = await open_database(place)
    yield database
    await database.close()


async def test_administrators_are_added_once_and_listed_by_name(database: Database) -> None:
    people = Administrators(database)
    assert await people.all() == []
    assert await people.add("zoe", "viewer", NOW)
    assert await people.add("ada", "administrator", NOW)
    assert not await people.add("ada", "viewer", NOW)
    assert await people.all() == [
        Administrator(name="ada", role="administrator", created=NOW),
        Administrator(name="zoe", role="viewer", created=NOW),
    ]
    assert await people.set_role("zoe", "administrator", {"ada", "zoe"})
    assert not await people.set_role("nobody", "viewer", {"ada"})
    assert await people.remove("zoe", {"ada", "zoe"})
    assert not await people.remove("zoe", {"ada"})


async def test_one_administrator_with_a_password_is_always_left(database: Database) -> None:
    people = Administrators(database)
    for name in ("ada", "bob"):
        await people.add(name, "administrator", NOW)
    # Bob has no password, so he cannot do what Ada can.
    with pytest.raises(LastAdministrator):
        await people.remove("ada", {"ada"})
    with pytest.raises(LastAdministrator):
        await people.set_role("ada", "viewer", {"ada"})
    assert await people.remove("bob", {"ada"})
    assert [one.name for one in await people.all()] == ["ada"]


async def test_of_two_who_remove_each_other_one_stays(database: Database) -> None:
    people, names = Administrators(database), {"ada", "bob"}
    for name in names:
        await people.add(name, "administrator", NOW)
    done = await asyncio.gather(*(people.remove(name, names) for name in names), return_exceptions=True)
    assert sorted(str(one) if one is True else type(one).__name__ for one in done) == ["LastAdministrator", "True"]
    assert len(await people.all()) == 1


async def test_a_session_is_found_used_and_ended(database: Database) -> None:
    sessions = PageSessions(database)
    await sessions.add(SIGNED_IN)
    assert await sessions.get("s1") == SIGNED_IN
    await sessions.seen("s1", NOW + HOUR)
    assert await sessions.get("s1") == replace(SIGNED_IN, seen=NOW + HOUR)
    await sessions.remove("s1")
    assert await sessions.get("s1") is None


async def test_all_sessions_of_one_person_end_and_no_others(database: Database) -> None:
    sessions = PageSessions(database)
    for digest, kind, name in (("s1", "agent", "jane"), ("s2", "agent", "jane"), ("s3", "admin", "jane")):
        await sessions.add(replace(SIGNED_IN, digest=digest, kind=kind, name=name))
    assert await sessions.remove_of("agent", "jane") == 2
    assert await sessions.get("s3") is not None


def test_no_representation_shows_what_is_secret() -> None:
    assert "s1" not in repr(SIGNED_IN)
    assert "'k'" not in repr(SIGNED_IN)
    assert "d1" not in repr(INVITED)


async def test_an_invitation_is_used_once_even_by_two_at_the_same_moment(database: Database) -> None:
    invitations = Invitations(database)
    await invitations.put(INVITED)
    assert await invitations.get("d1") == INVITED
    taken = await asyncio.gather(*(invitations.take("d1", NOW) for _ in range(5)))
    assert [one for one in taken if one] == [INVITED]
    assert await invitations.get("d1") is None


async def test_an_invitation_ends_and_a_new_one_replaces_it(database: Database) -> None:
    invitations = Invitations(database)
    await invitations.put(INVITED)
    assert await invitations.take("d1", NOW + HOUR) is None
    await invitations.put(replace(INVITED, digest="d2"))
    assert await invitations.get("d1") is None
    assert await invitations.remove_of("agent", "jane") == 1


async def test_a_token_is_known_by_its_digest(database: Database) -> None:
    tokens = ApiTokens(database)
    assert await tokens.add("ci", "d1", "viewer", NOW)
    assert not await tokens.add("ci", "d2", "administrator", NOW)
    known = ApiToken(name="ci", role="viewer", created=NOW, used=None)
    assert await tokens.by_digest("d1") == known
    assert await tokens.by_digest("d2") is None
    await tokens.used("ci", NOW + HOUR)
    assert await tokens.all() == [replace(known, used=NOW + HOUR)]
    assert await tokens.remove("ci") == "viewer"
    assert await tokens.remove("ci") is None


async def test_what_has_expired_is_forgotten(database: Database) -> None:
    await PageSessions(database).add(SIGNED_IN)
    await PageSessions(database).add(replace(SIGNED_IN, digest="s2", expires=NOW + 2 * HOUR))
    await Invitations(database).put(INVITED)
    await forget_outdated(database, NOW + HOUR)
    found = union_all(*(select(table.c.digest) for table in (sessions, invitations)))
    assert await database.read(lambda connection: list(connection.execute(found).scalars())) == ["s2"]
