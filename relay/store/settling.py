"""What becomes of a message under way: its attempt begins, reaches the final dot, and is settled."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar

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
    func,
    insert,
    select,
    update,
)

from relay.store.claims import Lease
from relay.store.contents import delete_content
from relay.store.entries import insert_messages
from relay.store.history import message as read_message
from relay.store.messages import Attempt, Change, Fenced, Leased, Settlement
from relay.store.rows import attempt_values
from relay.store.tables import attempts, messages, recipients


class Begun(NamedTuple):
    """An attempt that begins, of a message under way."""

    id: str
    fence: int
    attempt: Attempt


class Dotted(NamedTuple):
    """An attempt that is about to send its final dot."""

    id: str
    fence: int
    number: int


# Of each of these, one call writes what several callers have, and answers each: a late one gets a Fenced.
Answers = list[Exception | None]


def begin_attempts(connection: Connection, begun: Sequence[Begun], lease: Lease) -> Answers:
    """Record attempts that begin."""
    answers, mine = _mine(connection, begun, lease)
    if mine:
        connection.execute(_SHOW_ATTEMPT, [{"of_message": one.id, **_account(one.attempt)} for one in mine])
        connection.execute(insert(attempts), [attempt_values(one.id, one.attempt) for one in mine])
    return answers


def mark_final_dots(connection: Connection, dotted: Sequence[Dotted], lease: Lease) -> Answers:
    """Record that attempts are about to send their final dots. Raises LookupError for an unknown attempt."""
    answers, mine = _mine(connection, dotted, lease)
    if mine:
        done = connection.execute(_MARK_DOT, [{"of_message": one.id, "of_number": one.number} for one in mine])
        if done.rowcount != len(mine):
            raise LookupError("there is no " + " or no ".join(f"attempt {one.number} of {one.id}" for one in mine))
    return answers


def settle(connection: Connection, settlements: Sequence[Settlement], lease: Lease, now: datetime) -> Answers:
    """Write what became of messages, with their reports, and end their leases."""
    answers, mine = _mine(connection, settlements, lease)
    if mine:
        ended = {"lease_owner": None, "lease_until": None}
        connection.execute(_SETTLE, [{"of_message": one.id, **_facts(one, now), **ended} for one in mine])
        _write_rest(connection, mine, lease, now)
    return answers


def release_lease(connection: Connection, id_: str, fence: int, state: str, lease: Lease) -> None:
    """Let a message wait as it did before it was taken. Raises Fenced."""
    mine = (messages.c.id == id_, messages.c.fence == fence, messages.c.lease_owner == lease.owner)
    released = update(messages).where(*mine).values(state=state, lease_owner=None, lease_until=None)
    if not connection.execute(released).rowcount:
        raise Fenced(id_)


def edit(connection: Connection, id_: str, change: Change, lease: Lease, now: datetime) -> bool:
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
    connection.execute(_SETTLE_OPEN, [{"of_message": id_, **_facts(settlement, now)}])
    _write_rest(connection, [replace(settlement, id=id_)], lease, now)
    return True


class _OfMessage(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def fence(self) -> int: ...


M = TypeVar("M", bound=_OfMessage)


def _mine(connection: Connection, items: Sequence[M], lease: Lease) -> tuple[Answers, list[M]]:
    """Return what each is answered, and those whose messages are ours; nobody takes them while we write."""
    ids = [item.id for item in items]
    ours = select(messages.c.id, messages.c.fence).where(messages.c.id.in_(ids), messages.c.lease_owner == lease.owner)
    fences = {row.id: row.fence for row in connection.execute(ours.with_for_update())}
    answers: Answers = [None if fences.get(item.id) == item.fence else Fenced(item.id) for item in items]
    return answers, [item for item, answer in zip(items, answers, strict=True) if answer is None]


def _write_rest(connection: Connection, settlements: Sequence[Settlement], lease: Lease, now: datetime) -> None:
    """Write what settlements change outside the messages' own rows."""
    if rows := [row for one in settlements for row in _recipients(one)]:
        connection.execute(_SET_RECIPIENT, rows)
    if rows := [attempt_values(one.id, one.attempt) for one in settlements if one.attempt is not None]:
        connection.execute(
            _FORGET_ATTEMPT, [{"of_message": row["message"], "of_number": row["number"]} for row in rows]
        )
        connection.execute(insert(attempts), rows)
    if finished := [one.id for one in settlements if one.is_finished]:
        delete_content(connection, finished)
    insert_messages(connection, [report for one in settlements for report in one.reports], lease, now)


def _set(table: Table, where: ColumnElement[bool], names: Sequence[str], **others: ColumnElement[Any]) -> Update:
    """Return the statement that sets these columns, each by the parameter of its name."""
    return update(table).where(where).values({**{name: bindparam(name) for name in names}, **others})


def _later(number: ColumnElement[int]) -> ColumnElement[int]:
    """Return the number of the last attempt, where this one may be an earlier one."""
    return case((messages.c.attempts > number, messages.c.attempts), else_=number)


_OF_MESSAGE = messages.c.id == bindparam("of_message")
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
_SHOW_ATTEMPT = _set(messages, _OF_MESSAGE, (), **_SHOWN)
_SETTLE_OPEN = _set(messages, _OF_MESSAGE, _FACTS, **_SHOWN)
_SETTLE = _set(messages, _OF_MESSAGE, (*_FACTS, "lease_owner", "lease_until"), **_SHOWN)
_SET_RECIPIENT = _set(recipients, _OF_RECIPIENT, ("state", "reply", "meaning", "changed"))
_MARK_DOT = update(attempts).where(_OF_ATTEMPT).values(final_dot=True)
_FORGET_ATTEMPT = delete(attempts).where(_OF_ATTEMPT)


def _recipients(settlement: Settlement) -> list[dict[str, Any]]:
    return [
        {
            "of_message": settlement.id,
            "of_number": each.number,
            "state": each.state,
            "reply": each.reply,
            "meaning": each.meaning,
            "changed": each.changed,
        }
        for each in settlement.recipients
    ]


def _facts(settlement: Settlement, now: datetime) -> dict[str, Any]:
    return {
        "state": settlement.state,
        "next_attempt": settlement.next_attempt,
        "reason": settlement.reason,
        "unknowns": settlement.unknowns,
        "warned": settlement.warned,
        "held_since": settlement.held_since,
        "held_seconds": settlement.held_seconds,
        "held_by": settlement.held_by or None,
        "delivered": settlement.delivered,
        "reply": settlement.reply,
        "finished": now if settlement.is_finished else None,
        **_account(settlement.attempt),
    }


def _account(attempt: Attempt | None) -> dict[str, Any]:
    """Return what a message shows of its last attempt; without one it shows what it did."""
    if attempt is None:
        return {"of_attempt": 0, "of_server": None, "of_username": None}
    return {"of_attempt": attempt.number, "of_server": attempt.server, "of_username": attempt.username}
