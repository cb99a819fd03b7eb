"""A PostgreSQL with 1,000,000 waiting messages, and 300,000 that are over: claims and searches read an index."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from relay.mail.address import Address
from relay.store.db.queue_tables import messages
from relay.store.db.tables import microseconds
from relay.store.queue.holds import Cause
from relay.store.queue.queue import Queue
from relay.store.queue.search import ListPosition, SearchCriteria
from tests.peers import postgres as peer
from tests.peers.postgres import Postgres, postgres_server
from tests.unit.store.store_kit import NOW, history, in_postgres, new, new_message, open_queue

pytestmark = [pytest.mark.needs(*peer.NEEDS), pytest.mark.long, pytest.mark.timeout(480)]
MANY, FEWER = 1_000_000, 300_000
PROFILES = 200
DAY = timedelta(days=1)
FILL = "INSERT INTO messages SELECT {columns} FROM generate_series(1, {many}) AS i, messages WHERE id = '{pattern}'"
COMMON = {
    "profile": "'agent' || (i % {profiles})",
    "sender": "'agent' || (i % {profiles}) || '@acmejets.example'",
    "sender_key": "'agent' || (i % {profiles}) || '@acmejets.example'",
    "subject": "'Flight ' || i",
}
# Half of what waits is due; all of it is of 200 profiles, by turns, and so is what is over.
WAITING = {
    **COMMON,
    "id": "'w' || lpad(i::text, 8, '0')",
    "created": "created + i * 1000::bigint",
    "next_attempt": "{now} + (i - {many} / 2) * 1000::bigint",
    "message_id": "'<w' || i || '@acmejets.example>'",
}
OVER = {
    **COMMON,
    "id": "'h' || lpad(i::text, 8, '0')",
    "created": "{now} - i * 60000000::bigint",
    "message_id": "'<' || i || '@acmejets.example>'",
    "state": "CASE i % 10 WHEN 0 THEN 'failed' ELSE 'delivered' END",
}
INDEXES = """
SELECT indexdef FROM pg_indexes WHERE tablename IN ('messages', 'recipients') AND indexname NOT LIKE 'pk%'
"""
FILL_RECIPIENTS = """
SET session_replication_role = replica;
INSERT INTO recipients
SELECT messages.id, 0, substr(messages.id, 2) || '@There.example', substr(messages.id, 2) || '@there.example', notify,
       original_type, original, messages.state, r.reply, meaning, changed
FROM messages, (SELECT * FROM recipients WHERE message = 'waits') AS r WHERE messages.id NOT IN ('waits', 'over')
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres_server("fsync=off", "full_page_writes=off", "shared_buffers=512MB", "work_mem=16MB") as started:
        yield started


@pytest.fixture(scope="module")
def filled(server: Postgres) -> str:
    """The database; tests must leave it as it is, but for leases."""
    name = server.new_database()

    async def make_patterns() -> None:
        async with open_queue(in_postgres(server, name)) as queue:
            await queue.add(new(new_message("waits")))
            await queue.record([history(new_message("over", state="delivered"))])

    asyncio.run(make_patterns())
    facts = {"now": microseconds(NOW), "many": MANY, "profiles": PROFILES}
    indexes = [index for (index,) in server.sql(name, INDEXES)]
    for index in indexes:  # to make them at the end takes a tenth of the time
        server.sql(name, f"DROP INDEX {index.split()[2]}")
    for pattern, overridden, many in (("waits", WAITING, MANY), ("over", OVER, FEWER)):
        columns = [overridden.get(column.name, column.name).format(**facts) for column in messages.columns]
        server.sql(name, FILL.format(columns=", ".join(columns), many=many, pattern=pattern))
    server.sql(name, FILL_RECIPIENTS)
    for index in indexes:
        server.sql(name, index)
    server.sql(name, "VACUUM ANALYZE")
    return name


@pytest.fixture
async def queue(server: Postgres, filled: str) -> AsyncIterator[Queue]:
    async with open_queue(in_postgres(server, filled)) as opened:
        yield opened


@contextmanager
def explained(queue: Queue) -> Iterator[list[dict[str, Any]]]:
    """Collects what the database really did for each statement of a question (auto_explain is for superusers)."""
    plans: list[dict[str, Any]] = []

    def before(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        if not many and statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            with cursor.connection.cursor() as asking:
                asking.execute(f"EXPLAIN (FORMAT JSON) {statement}", values)
                plans.append(asking.fetchone()[0][0]["Plan"])

    engines = (queue._database._readers._engine, queue._database._writer._engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", before)
    yield plans
    for engine in engines:
        event.remove(engine, "before_cursor_execute", before)


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from steps(child)


async def plans_of(queue: Queue, question: Callable[[], Awaitable[object]]) -> list[dict[str, Any]]:
    with explained(queue) as plans:
        await question()
    return [step for plan in plans for step in steps(plan)]


async def give_back(queue: Queue, profiles: list[str], limit: int) -> int:
    claimed = await queue.claim(profiles, limit, NOW, "sending")
    for message in claimed:
        await queue.release_lease(message.id, message.fence, "queued")
    return len(claimed)


def is_large_scan(step: dict[str, Any]) -> bool:
    return step["Node Type"].endswith("Seq Scan") and step["Relation Name"] in {"messages", "recipients"}


@pytest.mark.parametrize(
    ("question", "index"),
    [
        (lambda q: give_back(q, ["agent3"], 1), "ix_messages_waiting"),
        (lambda q: give_back(q, ["agent2", "agent4"], 5), "ix_messages_waiting"),
        (lambda q: give_back(q, [f"agent{n}" for n in range(90)], 20), "ix_messages_waiting"),
        (lambda q: give_back(q, [f"agent{n}" for n in range(150)], 20), "ix_messages_waiting"),
        (lambda q: q.due_times(), "ix_messages_waiting"),
        (lambda q: q.make_due(NOW - timedelta(days=9), profile="x"), "ix_messages_waiting"),
        (lambda q: q.hold_waiting(["x"], cause=Cause("a", "m", ""), state="h", now=NOW), "ix_messages_waiting"),
        (lambda q: q.free("nobody", state="queued", now=NOW), "ix_messages_held"),
        (lambda q: q.renew_leases(), "ix_messages_leased"),
        (lambda q: anext(aiter(q.take_back(NOW, only_expired=True)), None), "ix_messages_leased"),
        (lambda q: q.oldest(), "ix_messages_open"),
        (lambda q: q.list_queue(limit=50), "ix_messages_created or ix_messages_open"),  # nearly all of them wait
        (lambda q: q.search(limit=50), "ix_messages_created"),
        (lambda q: q.search(limit=50, after=new_message("w")), "ix_messages_created"),
        (lambda q: q.search(limit=50, state="failed", since=NOW - DAY), "ix_messages_state"),
        (lambda q: q.search(limit=50, sender=Address.parse("agent9@acmejets.example")), "ix_messages_sender_key"),
        (lambda q: q.search(limit=50, message_id="777@acmejets.example"), "ix_messages_message_id"),
        (lambda q: q.search(limit=50, to=Address.parse("00077777@there.example")), "ix_recipients_address_key"),
        (lambda q: q.find(SearchCriteria(profile="agent7"), limit=50), "ix_messages_profile"),
        (lambda q: q.find(SearchCriteria(), limit=50, after=ListPosition(NOW - DAY, "h0")), "ix_messages_created"),
        (lambda q: q.find(SearchCriteria(contains="Flight 77"), limit=50), "ix_messages_created"),
        (lambda q: q.ids_starting("w0007", 2), "pk_messages"),
        (lambda q: q.purge(NOW - timedelta(days=4000)), "ix_messages_finished"),
        (lambda q: q.message("w00000009"), "pk_messages"),
    ],
)
async def test_every_question_reads_an_index(
    queue: Queue, question: Callable[[Queue], Awaitable[object]], index: str
) -> None:
    found = await plans_of(queue, lambda: question(queue))
    assert not {step.get("Index Name") for step in found}.isdisjoint(index.split(" or ")), json.dumps(
        found[0], indent=1
    )
    assert [step for step in found if is_large_scan(step)] == []


async def least(question: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds that an answer takes at least: whatever else the machine does makes others more, and none less."""
    taken = []
    for _ in range(15):
        start = time.monotonic()
        await question()
        taken.append(time.monotonic() - start)
    return min(taken) * 1000


@contextmanager
def timed(queue: Queue) -> Iterator[dict[str, list[float]]]:
    """Collects how long each statement takes, in milliseconds, by its text."""
    taken: dict[str, list[float]] = {}

    def before(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        context.began = time.monotonic()

    def after(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        taken.setdefault(statement, []).append((time.monotonic() - context.began) * 1000)

    engines = (queue._database._readers._engine, queue._database._writer._engine)
    listeners = {"before_cursor_execute": before, "after_cursor_execute": after}
    for engine in engines:
        for name, listener in listeners.items():
            event.listen(engine, name, listener)
    yield taken
    for engine in engines:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)


async def least_of_claims(queue: Queue, profiles: list[str], limit: int) -> float:
    """Milliseconds that the statements of a claim take, the least of each: no one of them is long enough to be
    interrupted every time, however much else the machine does. What is claimed is given back."""
    with timed(queue) as taken:
        for _ in range(30):
            claimed = await queue.claim(profiles, limit, NOW, "sending")
            assert len(claimed) == limit
            for message in claimed:
                await queue.release_lease(message.id, message.fence, "queued")
    # What gives back is an UPDATE; a claim is a WITH and some SELECT.
    return sum(min(times) for statement, times in taken.items() if not statement.startswith("UPDATE"))


async def test_claims_and_searches_come_at_once(queue: Queue) -> None:
    everybody = [f"agent{number}" for number in range(PROFILES)]
    claims = {
        "one": await least_of_claims(queue, ["agent3"], 1),
        "all": await least_of_claims(queue, everybody, 1),
        "many": await least_of_claims(queue, everybody, 20),
    }
    searches = {
        "newest": await least(lambda: queue.find(SearchCriteria(), limit=50)),
        "sender": await least(lambda: queue.search(sender=Address.parse("agent9@acmejets.example"), limit=50)),
        "recipient": await least(lambda: queue.search(to=Address.parse("00777777@there.example"), limit=50)),
        "profile": await least(lambda: queue.find(SearchCriteria(profile="agent7"), limit=50)),
        "state": await least(lambda: queue.search(state="failed", limit=50)),
        "message-id": await least(lambda: queue.search(message_id="777@acmejets.example", limit=50)),
        "subject": await least(lambda: queue.find(SearchCriteria(subject="flight 99"), limit=50)),
        "contains": await least(lambda: queue.find(SearchCriteria(contains="999"), limit=50)),
    }
    print(f"milliseconds with {MANY} waiting: claims {claims}, searches {searches}")  # noqa: T201
    assert max(claims.values()) < 10
    assert max(searches.values()) < 200
