"""What is true of a store in PostgreSQL beside the contract that it shares with SQLite."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, event, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from relay.config.settings import Settings
from relay.limits.ledger import Purpose, Spent
from relay.limits.rows import Taken
from relay.store.cluster.leases import LeaseContinuity
from relay.store.db.backend import Use
from relay.store.db.database import Database, open_database, open_store
from relay.store.db.errors import StoreBusy, StoreCorrupt, StoreError, StoreNewer
from relay.store.db.postgresql import PostgresDatabase
from relay.store.db.tables import HEAD, metadata, secrets
from relay.store.people.access import Administrators, LastAdministrator
from relay.store.people.audit import AuditSearch, AuditTable
from relay.store.queue.claims import Living
from relay.store.queue.messages import Fenced, HoldRow
from relay.store.queue.queue import Queue
from relay.store.queue.search import SearchCriteria
from tests.peers import postgres as peer
from tests.peers.canaries import leaks_in, plain_canary
from tests.peers.postgres import Postgres, postgres_server
from tests.unit.store.store_kit import (
    NOW,
    attempt,
    delivered,
    in_postgres,
    migrations,
    new,
    new_message,
    open_queue,
    settlement,
)

pytestmark = pytest.mark.needs(*peer.NEEDS)
DAY = timedelta(days=1)


@pytest.fixture
def name(postgres: Postgres, empty: str) -> str:
    """A database with the tables of a store."""
    return postgres.new_database(like=empty)


@pytest.fixture
async def store(postgres: Postgres, name: str) -> AsyncIterator[Database]:
    opened = await open_database(in_postgres(postgres, name))
    yield opened
    await opened.close()


@pytest.fixture
async def two(postgres: Postgres, name: str) -> AsyncIterator[tuple[Queue, Queue]]:
    """Two machines at one store. By their own clocks it is a winter of long ago."""
    place = in_postgres(postgres, name)
    async with open_queue(place, "one") as one, open_queue(place, "two") as other:
        yield one, other


def scalar(statement: str) -> Callable[[Connection], Any]:
    return lambda connection: connection.execute(text(statement)).scalar_one()


def put(owner: str) -> Callable[[Connection], str]:
    def job(connection: Connection) -> str:
        connection.execute(insert(secrets).values(owner=owner, sealed=b"", changed=NOW))
        return owner

    return job


# Leases, between machines


async def test_leases_end_by_the_clock_of_the_database(two: tuple[Queue, Queue]) -> None:
    one, other = two
    one._lease = timedelta(seconds=0.1)
    await one.add(new(new_message("claimed")), new(new_message("added"), attempt=attempt()))
    await one.claim(["support"], 1, NOW, "sending")

    async def expired(now: Any) -> list[str]:
        return [message.id async for message, _ in other.take_back(now, only_expired=True)]

    await asyncio.sleep(0.2)  # PostgreSQL's clock; all of it would be over, if nothing were renewed
    one._lease = timedelta(minutes=1)
    await one.renew_leases()
    assert await expired(NOW + 1000 * DAY) == []
    one._lease = timedelta(seconds=0.1)
    await one.renew_leases()
    await asyncio.sleep(0.2)  # the same
    assert await expired(NOW - DAY) == ["added", "claimed"]


async def test_what_other_machines_let_expire_is_taken_by_who_was_there_all_the_time(two: tuple[Queue, Queue]) -> None:
    """Not by who has just begun: the database may have been away for all."""
    one, other = two
    one._lease = -DAY
    other._living = Living(node="two/", run="two/1/", place="two/1/0/")
    await one.add(new(new_message("a"), attempt=attempt()))
    await other.renew_leases()
    assert [message.id async for message, _ in other.take_back(NOW)] == []
    other._continuity = LeaseContinuity(0, timer=lambda: 0)
    await other.renew_leases()
    assert [message.id async for message, _ in other.take_back(NOW)] == ["a"]


async def test_what_all_count_by_is_the_clock_of_the_database(two: tuple[Queue, Queue]) -> None:
    one, _ = two
    assert one.wall() == NOW.timestamp()
    before = time.time() - 1  # the clocks of two processes of one machine
    await one.renew_leases()
    assert before <= one.wall() <= time.time() + 1

    taken = await one.take(Purpose("s", "u", "message", NOW, is_shared=False), lambda _, now: Taken(0, now))
    assert before <= taken.since.timestamp() <= time.time() + 1


async def test_what_another_took_over_is_not_written_by_the_late_owner(two: tuple[Queue, Queue]) -> None:
    one, other = two
    one._lease = -DAY
    await one.add(new(new_message("a")))
    (late,) = await one.claim(["support"], 1, NOW, "sending")
    await one.begin_attempt("a", late.fence, attempt(1))
    ((taken, begun),) = [each async for each in other.take_back(NOW, only_expired=True)]
    assert (taken.fence, begun) == (late.fence + 1, attempt(1))
    for writing in (
        one.mark_final_dot("a", late.fence, 1),
        one.begin_attempt("a", late.fence, attempt(2)),
        one.settle(delivered(late)),
        one.release_lease("a", late.fence, "queued"),
    ):
        with pytest.raises(Fenced):
            await writing
    await other.settle(settlement(taken))
    assert await one.counts() == {"queued": 1}


async def test_nobody_waits_for_what_another_is_taking(postgres: Postgres, two: tuple[Queue, Queue]) -> None:
    one, other = two
    await one.add(*(new(new_message(f"{number}")) for number in range(4)))
    name = one._database.name.partition("@/")[2].partition("?")[0]
    with postgres.connected(name) as taking:
        taking.execute("BEGIN")
        taking.execute("SELECT id FROM messages WHERE id IN ('1', '2') FOR UPDATE")
        assert [message.id for message in await other.claim(["support"], 9, NOW, "sending")] == ["0", "3"]
        taking.execute("ROLLBACK")
    assert [message.id for message in await other.claim(["support"], 9, NOW, "sending")] == ["1", "2"]


async def test_machines_add_up_what_they_spend_and_hold(two: tuple[Queue, Queue]) -> None:
    spent = Spent(server="s", username="u", kind="messages", since=NOW, count=1)
    hold = HoldRow(
        server="s", username="u", address="", meaning="m", reason="r", since=NOW, until=None, probes=0, next_probe=None
    )
    for number in range(10):
        each = replace(spent, since=NOW + number * DAY)
        await asyncio.gather(*(queue.spend([each], {}) for queue in two * 2))
        await asyncio.gather(*(queue.put_hold(replace(hold, probes=number)) for queue in two))
    assert [one.count for one in await two[0].spent()] == [4] * 10
    assert [row.probes for row in await two[1].holds()] == [9]


async def test_of_two_machines_that_remove_each_others_administrator_one_is_refused(
    postgres: Postgres, name: str, store: Database
) -> None:
    second, names = await open_database(in_postgres(postgres, name)), {"ada", "bob"}
    for person in names:
        await Administrators(store).add(person, "administrator", NOW)
    removing = [Administrators(store).remove("ada", names), Administrators(second).remove("bob", names)]
    done = await asyncio.gather(*removing, return_exceptions=True)
    await second.close()
    assert sorted(type(one).__name__ for one in done) == [LastAdministrator.__name__, "bool"]


async def test_a_job_that_another_machine_got_in_the_way_of_runs_again(store: Database) -> None:
    """A real deadlock: the other side waits for what we hold, and we for what it holds."""
    for owner in ("a", "b"):
        await store.write(put(owner))
    runs = 0
    each_has_one = threading.Barrier(2)

    def touch(*owners: str) -> Callable[[Connection], None]:
        is_first = True

        def job(connection: Connection) -> None:
            nonlocal runs, is_first
            runs += 1
            for owner in owners:
                connection.execute(update(secrets).where(secrets.c.owner == owner).values(changed=NOW + DAY))
                if is_first:
                    is_first = False
                    each_has_one.wait(30)

        return job

    second = await open_database(store._backend)
    await asyncio.gather(store.write_beside(touch("a", "b")), second.write_beside(touch("b", "a")))
    await second.close()
    assert runs > 2


async def test_what_is_there_already_is_an_error_still(store: Database) -> None:
    await store.write(put("a"))
    with pytest.raises(IntegrityError):
        await store.write(put("a"))


# Connections


async def test_what_a_connection_is_set_to(store: Database) -> None:
    for run, mode in ((store.read, "on"), (store.write, "off")):
        assert await run(scalar("SHOW transaction_read_only")) == mode
        assert await run(scalar("SHOW statement_timeout")) == "1min"
        assert await run(scalar("SHOW lock_timeout")) == "10s"
        assert await run(scalar("SHOW synchronous_commit")) == "on"
    assert await store.read(scalar("SHOW transaction_isolation")) == "repeatable read"
    assert await store.read(scalar("SELECT setting FROM pg_settings WHERE name = 'application_name'")) == "relay"


@pytest.mark.parametrize(("told", "meant"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")])
async def test_a_commit_that_promises_nothing_is_not_taken(
    postgres: Postgres, name: str, told: str, meant: str
) -> None:
    postgres.sql("postgres", f"ALTER DATABASE {name} SET synchronous_commit = {told}")
    store = await open_database(in_postgres(postgres, name))
    assert await store.write(scalar("SHOW synchronous_commit")) == meant
    await store.close()


async def test_a_reader_sees_one_state_and_cannot_write(store: Database) -> None:
    has_looked, is_written = threading.Event(), threading.Event()

    def look_twice(connection: Connection) -> list[int]:
        count = text("SELECT count(*) FROM secrets")
        seen = connection.execute(count).scalar_one()
        has_looked.set()
        assert is_written.wait(30)
        return [seen, connection.execute(count).scalar_one()]

    looking = asyncio.create_task(store.read(look_twice))
    assert await asyncio.to_thread(has_looked.wait, 30)
    await store.write(put("a"))
    is_written.set()
    assert await looking == [0, 0]
    with pytest.raises(StoreError, match="can only be read just now"):
        await store.read(put("b"))


async def test_a_lost_connection_is_made_anew_and_nobody_hears_of_it(postgres: Postgres, store: Database) -> None:
    name = await store.read(scalar("SELECT current_database()"))
    end = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}'"
    for owner in ("a", "b"):
        assert await store.write(put(owner)) == owner
        assert postgres.sql("postgres", end)[0][0] >= 1
    assert await store.read(lambda c: sorted(c.execute(select(secrets.c.owner)).scalars())) == ["a", "b"]


async def test_a_connection_that_is_lost_in_the_middle_of_a_job(postgres: Postgres, store: Database) -> None:
    runs = 0

    def put_and_lose(connection: Connection) -> str:
        nonlocal runs
        runs += 1
        done = put("a")(connection)
        if runs == 1:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            postgres.sql("postgres", "SELECT pg_terminate_backend(%s)", pid)
            connection.execute(text("SELECT 1"))
        return done

    assert await store.write(put_and_lose) == "a"
    assert runs == 2


async def test_a_commit_whose_answer_is_lost_is_not_tried_again(postgres: Postgres, store: Database) -> None:
    runs = 0

    @event.listens_for(store._writer._engine, "commit")
    def lose(connection: Connection) -> None:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        postgres.sql("postgres", "SELECT pg_terminate_backend(%s)", pid)

    def job(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        put("a")(connection)

    with pytest.raises(StoreError, match="cannot be reached"):
        await store.write(job)
    assert runs == 1


@pytest.mark.slow
async def test_who_is_stopped_in_the_middle_of_a_turn_costs_others_a_wait_and_no_refusal(
    postgres: Postgres, name: str
) -> None:
    """As a node that gets SIGSTOP, or whose machine pauses, between two statements."""
    one, other = [await open_database(in_postgres(postgres, name)) for _ in range(2)]
    has_turn, may_go_on = threading.Event(), threading.Event()

    def stop(connection: Connection) -> str:
        has_turn.set()
        may_go_on.wait(30)
        return put("one")(connection)

    stopped = asyncio.create_task(one.write(stop))
    await asyncio.to_thread(has_turn.wait, 10)
    assert await other.write(put("other")) == "other"
    may_go_on.set()
    assert await stopped == "one", "undone, and run once more"
    for database in (one, other):
        await database.close()


async def written(store: Database, value: str) -> bool:
    try:
        return await store.write(put(value)) == value
    except StoreError:
        return False


async def test_nobody_waits_long_for_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is stopped where it stands: the kernel holds the connections, and takes new ones."""
    with postgres_server() as server:
        place = PostgresDatabase(server.url(server.new_database(), connect_timeout="2"), "test")
        store = await open_database(place)
        await asyncio.gather(*(store.read(scalar("SELECT 1")) for _ in range(4)))
        with monkeypatch.context() as patch, server.frozen():
            patch.setattr("relay.store.db.postgresql._SILENCE_SECONDS", 1.0)
            for words in ("no answer for 1 seconds", "timeout expired"):
                jobs = [store.write(put("a")), *(store.read(scalar("SELECT 1")) for _ in range(40))]
                async with asyncio.timeout(60):  # one after the other they would need minutes
                    said = await asyncio.gather(*jobs, return_exceptions=True)
                assert all(isinstance(one, StoreError) and one_sentence(one) for one in said), said
                assert any(words in str(one) for one in said), said
                assert all("cannot be reached; check that PostgreSQL runs there" in str(one) for one in said)
        # For a second a connection that could not be made is not tried again.
        async with asyncio.timeout(20):
            while not await written(store, "b"):  # noqa: ASYNC110  the server has no event
                await asyncio.sleep(0.1)
        await store.close()


async def test_a_job_that_waits_too_long_for_a_lock_is_one_sentence(postgres: Postgres, store: Database) -> None:
    name = await store.read(scalar("SELECT current_database()"))

    def delete_all(connection: Connection) -> None:
        connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
        connection.execute(text("DELETE FROM secrets"))

    with postgres.connected(name) as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE secrets")
        with pytest.raises(StoreBusy, match="is busy with what others write; try again") as raised:
            await store.write(delete_all)
        other.execute("ROLLBACK")
    assert one_sentence(raised.value)


def one_sentence(error: BaseException) -> bool:
    return not any(part in str(error) for part in ("\n", "sqlalche", "SELECT", "DELETE"))


# Opening


async def refusal(**settings: Any) -> str:
    """What is said about a store that cannot be opened."""
    with pytest.raises(StoreError) as raised:
        await open_store(Settings(**settings), {})
    assert one_sentence(raised.value)
    return str(raised.value)


async def test_a_store_that_cannot_be_opened_is_one_sentence(postgres: Postgres, tmp_path: Path) -> None:
    secret = plain_canary("store")
    nobody = f"postgresql://relay:{secret}@/nowhere?host={postgres.folder}"
    said = [
        await refusal(store=nobody),
        await refusal(store=f"postgresql://relay:{secret}@127.0.0.1:1/relay"),
        await refusal(store=f"postgresql://relay:{secret}@{tmp_path}/%zz"),
        await refusal(store=f"postgresql://stranger@/postgres?host={postgres.folder}&password={secret}"),
        await refusal(store="postgresql://relay@db/relay", store_password_from="env:NOTHING"),
    ]
    assert not leaks_in("\n".join(said).encode())
    assert "does not exist; make it: createdb" in said[0]
    assert f"the store postgresql://relay:***@/nowhere?host={postgres.folder} " in said[0]
    assert "cannot be reached; check that PostgreSQL runs there" in said[1]
    assert "is no URL of PostgreSQL; write postgresql://user@host/db, and % as %25" in said[2]
    assert "does not let relay's user in; check pg_hba.conf and the user" in said[3]
    assert said[4].endswith("cannot be had: env:NOTHING: that variable is not set")


async def test_passwords_come_from_the_url_the_environment_or_a_credential(
    postgres: Postgres, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = plain_canary("right"), plain_canary("wrong")
    postgres.demand_password("locked", right)
    postgres.sql("postgres", f"GRANT {peer.USER} TO locked")
    url = f"postgresql://locked@/{name}?host={postgres.folder}"
    (tmp_path / "store").write_text(right + "\n")
    for settings, environ in (
        (Settings(store=url.replace("locked@", f"locked:{right}@")), {}),
        (Settings(store=url, store_password_from="credential:store"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}),
        (Settings(store=url, store_password_from="env:STORE"), {"STORE": right}),
    ):
        await (await open_store(settings, environ)).close()
    monkeypatch.setenv("PGPASSWORD", right)
    await (await open_store(Settings(store=url), {})).close()
    monkeypatch.setenv("PGPASSWORD", wrong)
    assert "refuses the password of relay's user" in (said := await refusal(store=url))
    monkeypatch.delenv("PGPASSWORD")
    assert "refuses the password of relay's user" in await refusal(store=url)
    assert not leaks_in(said.encode())


async def test_of_several_hosts_the_one_that_can_be_written_is_taken(postgres: Postgres, name: str) -> None:
    url = f"postgresql://relay@/{name}?host=/nowhere,{postgres.folder}&port=5432,5432"
    store = await open_store(Settings(store=url), {})
    assert await store.write(put("a")) == "a"
    await store.close()


# The schema


async def test_machines_that_start_at_once_make_the_schema_once(postgres: Postgres) -> None:
    place = in_postgres(postgres, postgres.new_database())
    opened = await asyncio.gather(*(open_database(place) for _ in range(4)))
    assert [await store.read(scalar("SELECT version_num FROM alembic_version")) for store in opened] == [HEAD] * 4
    for store in opened:
        await store.close()


async def test_machines_that_start_at_once_migrate_once(postgres: Postgres) -> None:
    name = postgres.new_database()
    migrate(postgres, name, "0003")
    opened = await asyncio.gather(*(open_database(in_postgres(postgres, name)) for _ in range(3)))
    assert [await store.read(differences) for store in opened] == [[]] * 3
    for store in opened:
        await store.close()


async def test_the_migrations_make_the_very_tables(postgres: Postgres, store: Database) -> None:
    """Their columns with types, orders and defaults, their constraints, and their indexes with conditions."""
    old = postgres.new_database()
    migrate(postgres, old, "0001")
    migrated = await open_database(in_postgres(postgres, old))
    assert await migrated.read(made) == await store.read(made)
    await migrated.close()


async def test_what_is_newer_or_of_another_program_is_left_alone(postgres: Postgres, name: str) -> None:
    postgres.sql(name, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreNewer, match=f"was made by a newer relay .schema 9999, and this one knows {HEAD}"):
        await open_database(in_postgres(postgres, name))
    other = postgres.new_database()
    postgres.sql(other, "CREATE TABLE customers (id int)")
    postgres.sql(other, f"GRANT ALL ON customers TO {peer.USER}")
    with pytest.raises(StoreCorrupt, match="is a database of another program"):
        await open_database(in_postgres(postgres, other))
    assert postgres.sql(other, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'") == [(1,)]


async def test_a_newer_schema_that_says_so_is_used_as_it_is(postgres: Postgres, name: str) -> None:
    """So that relays of the version before go on, and start anew, while machines are upgraded one after the other."""
    postgres.sql(name, "ALTER TABLE messages ADD COLUMN colour text")
    postgres.sql(name, "UPDATE alembic_version SET version_num = '9999'")
    postgres.sql(name, f"UPDATE schema_floor SET revision = '9999', floor = '{HEAD}'")
    opened = await open_database(in_postgres(postgres, name))
    assert await opened.write(put("a")) == "a"
    assert await opened.read(scalar("SELECT version_num FROM alembic_version")) == "9999"
    await opened.close()


async def test_a_database_that_cannot_have_every_letter_is_refused(postgres: Postgres) -> None:
    postgres.sql("postgres", "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' OWNER relay")
    with pytest.raises(StoreError, match="has the encoding LATIN1; make the database with ENCODING 'UTF8'"):
        await open_database(in_postgres(postgres, "latin"))


def migrate(server: Postgres, name: str, revision: str) -> None:
    place = in_postgres(server, name)
    assert isinstance(place, PostgresDatabase)
    engine = create_engine("postgresql+psycopg://", creator=partial(place._connect, Use.UPGRADE))
    with engine.begin() as connection:
        command.upgrade(migrations(connection=connection), revision)
    engine.dispose()


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


def made(connection: Connection) -> dict[str, list[Any]]:
    """All that PostgreSQL knows of the tables, but for the order of columns."""
    questions = {
        "columns": "SELECT table_name, column_name, data_type, collation_name, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public'",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace",
        "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    }
    return {what: sorted(map(tuple, connection.execute(text(sql)))) for what, sql in questions.items()}


# What others write


async def test_texts_are_compared_by_their_octets(store: Database) -> None:
    """In the order of a language "a" stands before "B", and a hyphen counts for nothing."""
    kinds = await store.read(
        scalar(
            "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public' AND data_type = 'text' "
            "AND table_name != 'alembic_version' AND collation_name IS DISTINCT FROM 'C'"
        )
    )
    assert kinds == 0


async def test_a_nul_is_looked_for_without_a_fault(two: tuple[Queue, Queue], store: Database) -> None:
    queue, _ = two
    await queue.add(new(new_message("a", subject="x\0y")))
    assert (await queue.search(limit=9, message_id="\0")) == []
    assert (await queue.ids_starting("\0", 2)) == []
    assert [m.id for m in (await queue.find(SearchCriteria(subject="x\0y"), limit=9)).messages] == ["a"]
    assert await queue.message("\0") is None
    assert await AuditTable(store).find(AuditSearch(contains="\0", who="\0"), limit=1) == []


# What is lost with the answer to a commit


async def test_what_was_taken_by_a_commit_whose_answer_is_lost_is_taken_back(
    postgres: Postgres, two: tuple[Queue, Queue]
) -> None:
    queue, _ = two
    await queue.add(new(new_message("claimed")))
    with answers_lost(queue):
        with pytest.raises(StoreError, match="cannot be reached"):
            await queue.claim(["support"], 1, NOW, "sending")
        with pytest.raises(StoreError, match="cannot be reached"):
            await queue.add(new(new_message("added"), attempt=attempt()))
    assert await queue.counts() == {"sending": 1, "queued": 1}
    assert await queue.claim(["support"], 9, NOW, "sending") == []
    assert has_doubts(queue)
    taken = {message.id: (message, begun) async for message, begun in queue.take_back(NOW)}
    assert {id_: begun for id_, (_, begun) in taken.items()} == {"added": attempt(), "claimed": None}
    assert not has_doubts(queue)
    for message, _ in taken.values():
        await queue.settle(settlement(message))
    assert await queue.counts() == {"queued": 2}


async def test_what_is_taken_back_by_a_commit_whose_answer_is_lost_is_not_lost(two: tuple[Queue, Queue]) -> None:
    one, other = two
    await one.add(new(new_message("a"), attempt=attempt()))
    with answers_lost(other), pytest.raises(StoreError, match="cannot be reached"):
        await anext(aiter(other.take_back(NOW)))
    assert has_doubts(other)
    assert [message.id async for message, _ in other.take_back(NOW)] == ["a"]
    assert not has_doubts(other)


async def test_doubts_end_with_what_the_store_says(two: tuple[Queue, Queue]) -> None:
    """Nothing was committed: the message waits, and nobody takes it from who claims it next."""
    queue, _ = two
    await queue.add(new(new_message("a")))
    queue._doubtful.add("a")
    assert [each async for each in queue.take_back(NOW)] == []
    assert not has_doubts(queue)
    queue._doubtful.add("a")
    (message,) = await queue.claim(["support"], 1, NOW, "sending")
    assert not has_doubts(queue)
    await queue.settle(delivered(message))


def has_doubts(queue: Queue) -> bool:
    return queue.has_doubts


@contextmanager
def answers_lost(queue: Queue) -> Iterator[None]:
    """Every commit comes to its end, and is answered by a connection that is gone."""
    dialect = queue._database._writer._engine.dialect
    commit = dialect.do_commit

    def lose(connection: Any) -> None:
        commit(connection)
        connection.driver_connection.close()
        connection.driver_connection.execute("SELECT 1")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialect, "do_commit", lose)
        yield
