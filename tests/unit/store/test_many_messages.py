"""A store with 100,000 waiting messages: every question reads an index, and takes few steps."""

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from relay.mail.address import Address
from relay.store.db.tables import microseconds
from relay.store.queue.holds import Cause
from relay.store.queue.queue import Queue
from relay.store.queue.search import SearchCriteria
from tests.peers.rows import each_row
from tests.unit.store.cost_kit import cost, full_scans, plan_of
from tests.unit.store.store_kit import NOW, new, new_message, open_queue, settlement

pytestmark = pytest.mark.slow

WAITING = 100_000
PROFILES = 200
# Half of the messages are due; all of them are of 200 profiles, by turns.
FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :waiting)
INSERT INTO messages
SELECT {columns} FROM n, (SELECT * FROM messages WHERE id = 'pattern') AS pattern ORDER BY i
"""
OVERRIDDEN = {
    "id": "printf('w%08d', i)",
    "created": "created + i * 1000",
    "profile": "'agent' || (i % :profiles)",
    "next_attempt": ":now + (i - :waiting / 2) * 1000",
    "message_id": "'<' || i || '@acmejets.example>'",
    "sender_key": "'agent' || (i % :profiles) || '@acmejets.example'",
}
FILL_RECIPIENTS = """
INSERT INTO recipients
SELECT messages.id, 0, address, 'r' || messages.rowid || '@there.example', notify, original_type, original,
       pattern.state, pattern.reply, meaning, changed
FROM messages, (SELECT * FROM recipients WHERE message = 'pattern') AS pattern WHERE messages.id != 'pattern'
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the store; tests must leave it as it is, but for leases."""
    path = tmp_path_factory.mktemp("many") / "relay.db"

    async def make_pattern() -> None:
        async with open_queue(path) as queue:
            await queue.add(new(new_message("pattern")))

    asyncio.run(make_pattern())
    connection = sqlite3.connect(path)
    names = [row[1] for row in connection.execute("PRAGMA table_info(messages)")]
    columns = ", ".join(OVERRIDDEN.get(name, name) for name in names)
    facts = {"waiting": WAITING, "profiles": PROFILES, "now": microseconds(NOW)}
    connection.execute(FILL.format(columns=columns), facts)
    connection.execute(FILL_RECIPIENTS)
    connection.commit()
    connection.close()
    return path


@pytest.fixture
async def queue(filled: Path) -> AsyncIterator[Queue]:
    async with open_queue(filled) as opened:
        yield opened


async def give_back(queue: Queue, profiles: list[str], limit: int) -> int:
    claimed = await queue.claim(profiles, limit, NOW, "sending")
    for message in claimed:
        await queue.release_lease(message.id, message.fence, "queued")
    return len(claimed)


async def test_answers_take_few_steps(queue: Queue) -> None:
    """The bounds are some twice what it takes. Without the index of a question most take hundreds or thousands."""
    everybody = [f"agent{number}" for number in range(PROFILES)]
    assert len(await queue.due_times()) == PROFILES + 1
    assert await cost(queue.due_times) < 25
    assert await cost(queue.counts) < 1000
    assert await cost(queue.oldest) < 5
    assert await cost(lambda: queue.look(NOW, 10_000)) < 120
    assert await cost(lambda: queue.list_queue(limit=50)) < 8
    assert await cost(lambda: queue.list_queue(limit=50, profile="agent7")) < 100
    assert await cost(lambda: queue.search(limit=50)) < 8
    assert await cost(lambda: queue.search(to=Address.parse("r77777@there.example"), limit=50)) < 5
    assert await cost(lambda: queue.search(sender=Address.parse("agent9@acmejets.example"), limit=50)) < 8
    assert await cost(lambda: queue.search(message_id="5@acmejets.example", limit=50)) < 5
    assert await cost(lambda: queue.search(state="held", limit=50)) < 5
    assert await cost(lambda: queue.ids_starting("w0007", 2)) < 5
    assert await give_back(queue, everybody, 20) == 20
    assert await cost(lambda: queue.claim(everybody, 0, NOW, "sending")) < 3
    assert await cost(lambda: queue.claim(["agent3"], 1, NOW, "sending")) < 5
    assert await cost(lambda: queue.claim(everybody, 1, NOW, "sending")) < 25


async def test_starting_looks_at_no_more_than_it_needs(filled: Path) -> None:
    runs = itertools.count()

    async def begin() -> None:
        async with open_queue(filled, f"next run {next(runs)}") as queue:
            taken = [message async for message, _ in queue.take_back(NOW)]
            for message in taken:
                await queue.release_lease(message.id, message.fence, "queued")
            await queue.due_times()
        assert len(taken) < 100

    assert await cost(begin) < 25


@each_row(
    ("question", "index", "is_sorted_by_index"),
    [
        (lambda q: q.due_times(), "COVERING INDEX ix_messages_waiting", True),
        # What is sorted here is at most what is claimed.
        (lambda q: q.claim(["agent1"], 5, NOW - timedelta(days=1), "s"), "ix_messages_waiting (profile=?", False),
        (lambda q: q.claim(["agent2", "agent4"], 5, NOW, "s"), "ix_messages_waiting (profile=?", False),
        (lambda q: q.make_due(NOW - timedelta(days=9), profile="x"), "ix_messages_waiting (profile=?", True),
        (
            lambda q: q.hold_waiting(["x"], cause=Cause("a", "login-refused", ""), state="h", now=NOW),
            "ix_messages_waiting",
            False,
        ),
        (lambda q: q.free("nobody", state="queued", now=NOW), "ix_messages_held (held_by=?)", True),
        (lambda q: q.held_for(), "COVERING INDEX ix_messages_held", False),
        (lambda q: q.renew_leases(), "ix_messages_leased (lease_owner=?)", True),
        (lambda q: q.counts(), "COVERING INDEX ix_messages_open_state", True),
        (lambda q: q.oldest(), "ix_messages_open", True),
        (lambda q: q.look(NOW, 5), "COVERING INDEX ix_messages_open", True),
        (lambda q: q.look(NOW, 5), "ix_messages_finished (finished>?)", True),
        (lambda q: q.among(SearchCriteria(), ["w00000009"]), "(id=?)", False),
        (lambda q: q.oldest_by_state(["held"]), "COVERING INDEX ix_messages_state (state=?)", True),
        (lambda q: q.list_queue(limit=5), "ix_messages_open", True),
        (lambda q: q.list_queue(limit=5, profile="agent1", after=new_message("w")), "ix_messages_open", True),
        (lambda q: q.search(limit=5), "ix_messages_created", True),
        (lambda q: q.search(limit=5, after=new_message("w")), "ix_messages_created", True),
        (lambda q: q.search(limit=5, since=NOW), "ix_messages_created (created>?)", True),
        (lambda q: q.search(limit=5, state="held", since=NOW), "ix_messages_state (state=? AND created>?)", True),
        (lambda q: q.search(limit=5, sender=Address.parse("a@b")), "ix_messages_sender_key (sender_key=?)", True),
        (lambda q: q.search(limit=5, message_id="x"), "ix_messages_message_id (message_id=?)", False),
        (lambda q: q.search(limit=5, to=Address.parse("r1@b")), "ix_recipients_address_key (address_key=?)", False),
        (lambda q: q.ids_starting("w1", 2), "(id>? AND id<?)", True),
        (lambda q: q.purge(NOW - timedelta(days=9)), "ix_messages_finished (finished<?)", True),
        (lambda q: q.edit("w00000009", lambda _: None), "(id=?)", True),
        (lambda q: q.edit("w00000009", settlement), "(id=?)", True),
        (lambda q: q.content("pattern"), "(message=? AND number<?)", True),
        (lambda q: anext(q.chunks("pattern")), "(message=? AND number>? AND number<?)", True),
    ],
)
async def test_every_question_reads_an_index(
    queue: Queue, question: Callable[[Queue], Awaitable[object]], index: str, *, is_sorted_by_index: bool
) -> None:
    plan = await plan_of(queue, lambda: question(queue))
    assert index in plan
    assert full_scans(plan) == []
    assert not is_sorted_by_index or "TEMP B-TREE" not in plan, plan
