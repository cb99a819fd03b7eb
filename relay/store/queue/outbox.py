"""The outbox: what webhooks are to be told of messages, written in the transaction of what it tells.

So an event is as sure as the state that it is about. The rows of one message are told in the order of their numbers:
only the first that waits is taken. What was told is kept for a while, to be told again when somebody asks.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection, and_, bindparam, delete, exists, func, insert, or_, select, update

from relay.store.db.database import Database
from relay.store.db.prepared import Prepared, moment
from relay.store.db.queue_tables import is_kept_back, is_untold, messages, outbox, webhooks
from relay.store.queue.history import select_messages
from relay.store.queue.messages import Attempt, NewEvent, ReturnRow, StoredMessage

# So many rows one statement changes or deletes.
_BATCH = 500


class Subscribers(Protocol):
    """Who wants to be told of messages (`relay.webhooks.subscriptions`). Called in the thread that writes."""

    def wants(self, event: str) -> bool:
        """Whether anybody wants to hear of such events. Cheap."""

    def events(
        self,
        event: str,
        message: StoredMessage,
        attempt: Attempt | None = None,
        returned: ReturnRow | None = None,
    ) -> Sequence[NewEvent]:
        """Return what is to be written where this happened to a message. Raises nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """An event that is to be told. `attempts`: how often that was tried."""

    number: int
    id: str
    message: str
    at: datetime
    body: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookState:
    """How a webhook answers: `failures` since it last took an event, and since when; `delivered` is when it did."""

    url: str
    failures: int = 0
    since: datetime | None = None
    next_attempt: datetime | None = None
    reason: str = ""
    delivered: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How much a webhook is not told yet, since when, and how much is held."""

    waiting: int = 0
    oldest: datetime | None = None
    held: int = 0


def insert_events(connection: Connection, events: Sequence[NewEvent]) -> None:
    """Write events, to be told at once."""
    _INSERT.run(
        connection,
        [(one.id, one.webhook, one.message, moment(one.at), one.body, moment(one.at), 0, None, "") for one in events],
    )


def telling(subscribers: Subscribers | None, event: str) -> Callable[[Connection, Collection[str]], None] | None:
    """Return what writes that this happened to many messages at once; None where nobody wants to hear of it."""
    if subscribers is None or not subscribers.wants(event):
        return None

    def tell(connection: Connection, ids: Collection[str]) -> None:
        moved = select(messages).where(messages.c.id.in_(list(ids))).order_by(messages.c.id)
        events = (subscribers.events(event, message) for message in select_messages(connection, moved))
        insert_events(connection, [one for some in events for one in some])

    return tell


_FACTS = ("id", "webhook", "message", "at", "body", "next_attempt", "attempts", "delivered", "reason")
_INSERT = Prepared(insert(outbox).values({name: bindparam(name) for name in _FACTS}), _FACTS)


class Outbox:
    """The tables `outbox` and `webhooks`, one transaction a method. Raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_missing(self, events: Sequence[NewEvent]) -> int:
        """Write those of some events that are not there yet; return how many."""
        return await self._database.write_beside(lambda c: _add_missing(c, events)) if events else 0

    async def due(self, url: str, now: datetime, limit: int) -> list[Untold]:
        """Return at most `limit` events that a webhook is to be told now, one of each message."""
        return await self._database.read(lambda c: _due(c, url, now, limit))

    async def told(self, numbers: Sequence[int], now: datetime) -> None:
        """Events were told."""
        values = {"next_attempt": None, "delivered": now, "attempts": outbox.c.attempts + 1, "reason": ""}
        change = update(outbox).where(outbox.c.number.in_(list(numbers))).values(values)
        await self._database.write_beside(lambda c: c.execute(change))

    async def put_off(self, number: int, until: datetime | None, reason: str) -> None:
        """An event could not be told: it is tried again then, or (None) held."""
        change = update(outbox).where(outbox.c.number == number)
        values = {"next_attempt": until, "attempts": outbox.c.attempts + 1, "reason": reason}
        await self._database.write_beside(lambda c: c.execute(change.values(values)))

    async def hold_older(self, url: str, before: datetime, reason: str) -> int:
        """Hold what a webhook could not be told since before a moment; return how many events."""
        some = select(outbox.c.number).where(is_untold, outbox.c.webhook == url, outbox.c.at < before).limit(_BATCH)
        change = update(outbox).where(outbox.c.number.in_(some)).values(next_attempt=None, reason=reason)
        return await self._repeated(lambda c: c.execute(change).rowcount)

    async def make_due(self, url: str, now: datetime) -> None:
        """Let all that waits for a webhook be tried now: it takes events again."""
        later = update(outbox).where(is_untold, outbox.c.webhook == url, outbox.c.next_attempt > now)
        await self._database.write_beside(lambda c: c.execute(later.values(next_attempt=now)))

    async def replay(self, urls: Collection[str], since: datetime, now: datetime) -> int:
        """Let these webhooks be told again what happened from a moment on, and is told or held; return how many."""
        over = (outbox.c.next_attempt.is_(None), outbox.c.webhook.in_(list(urls)), outbox.c.at >= since)
        some = select(outbox.c.number).where(*over).order_by(outbox.c.at).limit(_BATCH)
        values = {"next_attempt": now, "attempts": 0, "delivered": None, "reason": ""}
        change = update(outbox).where(outbox.c.number.in_(some)).values(values)
        return await self._repeated(lambda c: c.execute(change).rowcount)

    async def backlogs(self) -> dict[str, Backlog]:
        """Return how much is not told, by webhook; one without anything lacks."""
        return await self._database.read(_backlogs)

    async def states(self) -> dict[str, WebhookState]:
        """Return how each webhook answers, by its URL; one that was never asked lacks."""

        def job(connection: Connection) -> dict[str, WebhookState]:
            return {row.url: WebhookState(**row._mapping) for row in connection.execute(select(webhooks))}

        return await self._database.read(job)

    async def put_state(self, state: WebhookState) -> None:
        """Keep how a webhook answers."""
        values = {name: getattr(state, name) for name in webhooks.columns.keys()}  # noqa: SIM118 - columns, not a dict

        def job(connection: Connection) -> None:
            same = update(webhooks).where(webhooks.c.url == state.url)
            if not connection.execute(same.values(values)).rowcount:
                connection.execute(insert(webhooks), values)

        await self._database.write_beside(job)

    async def forget(self, *, told_before: datetime, all_before: datetime) -> int:
        """Delete what was told and happened before a moment, and everything that happened before another."""
        is_old = or_(and_(outbox.c.delivered.is_not(None), outbox.c.at < told_before), outbox.c.at < all_before)
        some = select(outbox.c.number).where(is_old)
        gone = delete(outbox).where(outbox.c.number.in_(some.order_by(outbox.c.at).limit(_BATCH)))
        return await self._repeated(lambda c: c.execute(gone).rowcount)

    async def _repeated(self, job: Callable[[Connection], int]) -> int:
        """Repeat a job that changes at most a batch, so that nobody waits long for a turn; return how many in all."""
        done = 0
        while changed := await self._database.write_beside(job):
            done += changed
        return done


def _add_missing(connection: Connection, events: Sequence[NewEvent]) -> int:
    moments = [one.at for one in events]
    near = select(outbox.c.id, outbox.c.webhook).where(outbox.c.at.between(min(moments), max(moments)))
    known = {(row.id, row.webhook) for row in connection.execute(near)}
    missing = [one for one in events if (one.id, one.webhook) not in known]
    insert_events(connection, missing)
    return len(missing)


def _due(connection: Connection, url: str, now: datetime, limit: int) -> list[Untold]:
    earlier = outbox.alias("earlier")
    is_behind = exists().where(
        earlier.c.webhook == outbox.c.webhook,
        earlier.c.message == outbox.c.message,
        earlier.c.number < outbox.c.number,
        earlier.c.next_attempt.is_not(None),
    )
    wanted = [outbox.c[name] for name in ("number", "id", "message", "at", "body", "attempts")]
    found = select(*wanted).where(is_untold, outbox.c.webhook == url, outbox.c.next_attempt <= now, ~is_behind)
    ordered = found.order_by(outbox.c.next_attempt, outbox.c.number).limit(limit)
    return [Untold(**row._mapping) for row in connection.execute(ordered)]


def _backlogs(connection: Connection) -> dict[str, Backlog]:
    count = func.count().label("count")
    waiting = select(outbox.c.webhook, count, func.min(outbox.c.at).label("oldest")).where(is_untold)
    kept_back = select(outbox.c.webhook, count).where(is_kept_back)
    found = {
        row.webhook: Backlog(waiting=row._mapping["count"], oldest=row.oldest)
        for row in connection.execute(waiting.group_by(outbox.c.webhook))
    }
    for row in connection.execute(kept_back.group_by(outbox.c.webhook)):
        known = found.get(row.webhook, Backlog())
        found[row.webhook] = Backlog(waiting=known.waiting, oldest=known.oldest, held=row._mapping["count"])
    return found


KEPT_TOLD = timedelta(days=3)
"""How long what was told can be told again."""
KEPT_HELD = timedelta(days=30)
"""How long what nobody took is kept."""
