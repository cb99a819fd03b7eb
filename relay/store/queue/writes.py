"""What is written about messages: new ones, and how an attempt begins, reaches its final dot and is settled.

Then what a person makes of a message, and the end: those that finished long ago are deleted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Table,
    Text,
    Update,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    null,
    select,
    true,
    tuple_,
    update,
)

from relay.store.db.prepared import Prepared, Row, moment, words
from relay.store.db.queue_tables import attempts, messages, recipients
from relay.store.queue.claims import DATABASE_NOW, LASTS, Lease
from relay.store.queue.contents import delete_content, digest_of, write_contents
from relay.store.queue.history import MOST_IDS
from relay.store.queue.history import message as read_message
from relay.store.queue.messages import Attempt, Change, Fenced, Leased, NewEvent, NewMessage, Settlement
from relay.store.queue.outbox import Subscribers, insert_events
from relay.store.queue.rows import ATTEMPT, MESSAGE, RECIPIENT, attempt_row, message_row, recipient_row


def insert_messages(
    connection: Connection,
    news: Sequence[NewMessage],
    lease: Lease,
    now: datetime,
    subscribers: Subscribers | None = None,
) -> None:
    """Write new messages: those with an open attempt under the lease, those without content as finished.

    What `subscribers` are told of that is written with it.
    """
    if not news:
        return
    over, until = moment(now), lease.value()
    rows: list[Row] = []
    under_way: list[Row] = []
    for new in news:
        message, content = new.message, new.content
        if content is None:
            rows.append(message_row(message, new.attempt, over))
            continue
        digest = digest_of(message.id, message.envelope, content)
        if new.is_under_way:
            under_way.append(message_row(message, new.attempt, None, (lease.owner, until), digest))
        else:
            rows.append(message_row(message, new.attempt, digest=digest))
    _INSERT_MESSAGE.run(connection, rows)
    insert_leased = _INSERT_MESSAGE if isinstance(lease.until, datetime) else _INSERT_LEASED
    insert_leased.run(connection, under_way)
    _INSERT_RECIPIENT.run(
        connection, [recipient_row(new.message.id, each) for new in news for each in new.message.recipients]
    )
    _INSERT_ATTEMPT.run(connection, [attempt_row(new.message.id, new.attempt) for new in news if new.attempt])
    write_contents(connection, [(new.message.id, new.content) for new in news if new.content is not None])
    if subscribers is not None:
        insert_events(connection, [event for new in news for event in _events(new, subscribers)])


def _events(new: NewMessage, subscribers: Subscribers) -> Sequence[NewEvent]:
    if new.events is not None:
        return new.events
    event = "queued" if new.content is not None else new.message.state
    return subscribers.events(event, new.message, new.attempt)


_INSERT_MESSAGE = Prepared(insert(messages), MESSAGE)
# Under a lease of which the database says when it began.
_INSERT_LEASED = Prepared(
    insert(messages).values({**{name: bindparam(name) for name in MESSAGE}, "lease_until": DATABASE_NOW + LASTS}),
    [LASTS.key if name == "lease_until" else name for name in MESSAGE],
)
_INSERT_RECIPIENT = Prepared(insert(recipients), RECIPIENT)
_INSERT_ATTEMPT = Prepared(insert(attempts), ATTEMPT)


def lacking(connection: Connection, news: Sequence[NewMessage]) -> list[NewMessage]:
    """Return those of some messages that are not there yet."""
    there: set[str] = set()
    for start in range(0, len(news), MOST_IDS):
        some = [new.message.id for new in news[start : start + MOST_IDS]]
        there.update(connection.execute(select(messages.c.id).where(messages.c.id.in_(some))).scalars())
    return [new for new in news if new.message.id not in there]


def content_octets(news: Sequence[NewMessage]) -> int:
    """Return how much content there is to write."""
    return sum([new.content.size for new in news if new.content is not None])


class BegunAttempt(NamedTuple):
    """An attempt that begins, of a message under way."""

    id: str
    fence: int
    attempt: Attempt


class FinalDot(NamedTuple):
    """An attempt that is about to send its final dot."""

    id: str
    fence: int
    number: int


# Each of these writes what several callers have. Where one of them is late, all are undone: the writer does each by
# itself then, and finds out whose it was.


def begin_attempts(connection: Connection, begun: Sequence[BegunAttempt], lease: Lease) -> None:
    """Record attempts that begin. Raises Fenced."""
    rows = [(one.id, one.fence, lease.owner, *_account(one.attempt)) for one in begun]
    _change(connection, _SHOW_ATTEMPT, rows)
    _INSERT_ATTEMPT.run(connection, [attempt_row(one.id, one.attempt) for one in begun])


def mark_final_dots(connection: Connection, dotted: Sequence[FinalDot], lease: Lease) -> None:
    """Record that attempts are about to send their final dots. Raises Fenced, also for an unknown attempt."""
    _change(connection, _MARK_DOT, [(one.id, one.fence, lease.owner, one.number) for one in dotted])


def settle(
    connection: Connection,
    settlements: Sequence[Settlement],
    lease: Lease,
    now: datetime,
    subscribers: Subscribers | None = None,
) -> None:
    """Write what became of messages, with their reports, and end their leases. Raises Fenced."""
    _change(connection, _SETTLE, [(one.id, one.fence, lease.owner, *_facts(one, now)) for one in settlements])
    _write_rest(connection, settlements, lease, now, subscribers)


def release_lease(connection: Connection, id_: str, fence: int, state: str, lease: Lease) -> None:
    """Let a message wait as it did before it was taken. Raises Fenced."""
    mine = (messages.c.id == id_, messages.c.fence == fence, messages.c.lease_owner == lease.owner)
    released = update(messages).where(*mine).values(state=state, lease_owner=None, lease_until=None)
    if not connection.execute(released).rowcount:
        raise Fenced(id_)


def edit(
    connection: Connection,
    id_: str,
    change: Change,
    lease: Lease,
    now: datetime,
    subscribers: Subscribers | None = None,
) -> bool:
    """Read a message and write what `change` makes of it; False where it is missing, or nothing changes.

    Raises Leased where the message is under way.
    """
    # The row is locked before it is read, where the database has more than one writer.
    untouched = update(messages).where(messages.c.id == id_).values(fence=messages.c.fence + 1)
    owner = connection.execute(untouched.returning(messages.c.lease_owner)).first()
    if owner is None:
        return False
    if owner.lease_owner is not None:
        raise Leased(id_)
    message = read_message(connection, id_)
    settlement = change(message) if message is not None else None
    if settlement is None:
        return False
    _EDIT.run(connection, [(id_, *_facts(settlement, now))])
    _write_rest(connection, [replace(settlement, id=id_)], lease, now, subscribers)
    return True


def _change(connection: Connection, statement: Prepared, rows: list[Row]) -> None:
    """Run a statement that changes one row for each of these. Raises Fenced where one is missing."""
    if statement.run(connection, rows) != len(rows):
        raise Fenced(rows[0][0] if len(rows) == 1 else "one of several messages")


def _write_rest(
    connection: Connection,
    settlements: Sequence[Settlement],
    lease: Lease,
    now: datetime,
    subscribers: Subscribers | None,
) -> None:
    """Write what settlements change outside the messages' own rows."""
    _SET_RECIPIENT.run(connection, [row for one in settlements for row in _recipients(one)])
    if rows := [attempt_row(one.id, one.attempt) for one in settlements if one.attempt is not None]:
        _put_attempts(connection, rows)
    if finished := [one.id for one in settlements if one.is_finished]:
        delete_content(connection, finished)
    if subscribers is not None:
        events = (
            subscribers.events(one.event, one.after, one.attempt)
            for one in settlements
            if one.event and one.after is not None
        )
        insert_events(connection, [event for some in events for event in some])
    insert_messages(connection, [report for one in settlements for report in one.reports], lease, now, subscribers)


def _put_attempts(connection: Connection, rows: Sequence[Row]) -> None:
    """Write attempts in place of what was known of them."""
    if _SET_ATTEMPT.run(connection, rows) == len(rows):
        return
    key = tuple_(attempts.c.message, attempts.c.number)
    there = select(attempts.c.message, attempts.c.number).where(key.in_([row[:2] for row in rows]))
    known = {tuple(row) for row in connection.execute(there)}
    _INSERT_ATTEMPT.run(connection, [row for row in rows if row[:2] not in known])


def _set(table: Table, where: ColumnElement[bool], names: Iterable[str], **others: ColumnElement[Any]) -> Update:
    """Return the statement that sets these columns, each by the parameter of its name."""
    return update(table).where(where).values({**{name: bindparam(name) for name in names}, **others})


def _later(number: ColumnElement[int]) -> ColumnElement[int]:
    """Return the number of the last attempt, where this one may be an earlier one."""
    return case((messages.c.attempts > number, messages.c.attempts), else_=number)


_OF_MESSAGE = messages.c.id == bindparam("of_message")
_IS_MINE = and_(_OF_MESSAGE, messages.c.fence == bindparam("of_fence"), messages.c.lease_owner == bindparam("of_owner"))
_OF_ATTEMPT = and_(attempts.c.message == bindparam("of_message"), attempts.c.number == bindparam("of_number"))
_OF_RECIPIENT = and_(recipients.c.message == bindparam("of_message"), recipients.c.number == bindparam("of_number"))
_FACTS = (
    "state",
    "next_attempt",
    "reason",
    "unknowns",
    "warned",
    "held_since",
    "held_seconds",
    "held_by",
    "delivered",
    "reply",
    "finished",
)
_SHOWN: dict[str, ColumnElement[Any]] = {
    "attempts": _later(bindparam("of_attempt", type_=Integer)),
    "server": func.coalesce(bindparam("of_server", type_=Text), messages.c.server),
    "username": func.coalesce(bindparam("of_username", type_=Text), messages.c.username),
}
_MINE = ("of_message", "of_fence", "of_owner")
_ACCOUNT = ("of_attempt", "of_server", "of_username")
_RECIPIENT = ("state", "reply", "meaning", "changed")
_SHOW_ATTEMPT = Prepared(_set(messages, _IS_MINE, (), **_SHOWN), (*_MINE, *_ACCOUNT))
_EDIT = Prepared(_set(messages, _OF_MESSAGE, _FACTS, **_SHOWN), ("of_message", *_FACTS, *_ACCOUNT))
_SETTLE = Prepared(
    _set(messages, _IS_MINE, _FACTS, **_SHOWN, lease_owner=null(), lease_until=null()), (*_MINE, *_FACTS, *_ACCOUNT)
)
_SET_RECIPIENT = Prepared(_set(recipients, _OF_RECIPIENT, _RECIPIENT), ("of_message", "of_number", *_RECIPIENT))
_MARK_DOT = Prepared(
    update(attempts).where(_OF_ATTEMPT, exists().where(_IS_MINE)).values(final_dot=true()), (*_MINE, "of_number")
)
_SET_ATTEMPT = Prepared(_set(attempts, _OF_ATTEMPT, ATTEMPT[2:]), ("of_message", "of_number", *ATTEMPT[2:]))


def _recipients(settlement: Settlement) -> list[Row]:
    return [
        (settlement.id, each.number, each.state, words(each.reply), each.meaning, moment(each.changed))
        for each in settlement.recipients
    ]


def _facts(settlement: Settlement, now: datetime) -> Row:
    """Return the values of _FACTS and _ACCOUNT."""
    return (
        settlement.state,
        moment(settlement.next_attempt),
        words(settlement.reason),
        settlement.unknowns,
        settlement.warned,
        moment(settlement.held_since),
        settlement.held_seconds,
        settlement.held_by or None,
        moment(settlement.delivered),
        words(settlement.reply),
        moment(now) if settlement.is_finished else None,
        *_account(settlement.attempt),
    )


def _account(attempt: Attempt | None) -> Row:
    """Return what a message shows of its last attempt; without one it shows what it did."""
    return (0, None, None) if attempt is None else (attempt.number, attempt.server, attempt.username)


def purge_some(connection: Connection, limit: int, *, before: datetime) -> int:
    """Delete some messages that were finished before a moment, with all that belongs to them; return how many."""
    old = select(messages.c.id).where(messages.c.finished < before).order_by(messages.c.finished).limit(limit)
    return connection.execute(delete(messages).where(messages.c.id.in_(old.scalar_subquery()))).rowcount
