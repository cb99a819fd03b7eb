"""Accounts that get no mail, and the messages that wait for them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from types import EllipsisType, MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    type_coerce,
    update,
)

from relay.store.db.queue_tables import holds, is_held, is_waiting, messages, recipients
from relay.store.db.tables import Time, microseconds
from relay.store.queue.messages import HoldRow
from relay.store.queue.rows import hold_of, hold_values, profile_word

TellMoved = Callable[[Connection, Collection[str]], None]
"""Told, in the transaction, which messages were moved."""


class Cause(NamedTuple):
    """What messages wait for: whose hold (`held_by`), what it means, and why in words."""

    held_by: str
    meaning: str
    reason: str


def all_holds(connection: Connection) -> tuple[HoldRow, ...]:
    """Return the holds of all accounts."""
    found = select(holds).order_by(holds.c.server, holds.c.username, holds.c.address)
    return tuple(hold_of(row) for row in connection.execute(found))


def put_hold(connection: Connection, hold: HoldRow) -> None:
    """Keep a hold, in place of one over the same."""
    row = hold_values(hold)
    same = _is_over(hold.server, hold.username, hold.address)
    if not connection.execute(update(holds).where(same).values(row)).rowcount:
        connection.execute(insert(holds), row)


def drop_hold(connection: Connection, server: str, username: str, address: str) -> bool:
    """Forget a hold; False where there was none."""
    gone = delete(holds).where(_is_over(server, username, address))
    return bool(connection.execute(gone).rowcount)


def held_for(connection: Connection) -> tuple[tuple[str, str | None], ...]:
    """Return whose holds hold messages, and of which profiles."""
    found = select(messages.c.held_by, messages.c.profile).where(is_held).distinct()
    return tuple((row.held_by, row.profile or None) for row in connection.execute(found))


def hold_some(
    connection: Connection,
    limit: int,
    *,
    profiles: Sequence[str | None],
    cause: Cause,
    state: str,
    now: datetime,
    pausing: str = "",
    tell: TellMoved | None = None,
) -> int:
    """Let some waiting messages of these profiles wait for a hold instead; return how many.

    Those in the state `pausing` are left alone until they are due.
    """
    words = [profile_word(profile) for profile in profiles]
    facts = {
        "state": state,
        "reason": cause.reason,
        "next_attempt": None,
        "held_by": cause.held_by,
        "held_since": func.coalesce(messages.c.held_since, literal(now, Time)),
    }
    is_ready = or_(messages.c.state != pausing, messages.c.next_attempt <= now)
    which = and_(is_waiting, messages.c.profile.in_(words), is_ready)
    return _move_some(connection, which, limit, facts, copies={"meaning": cause.meaning}, tell=tell)


def free_some(
    connection: Connection,
    limit: int,
    *,
    held_by: str,
    profile: str | EllipsisType | None,
    state: str,
    now: datetime,
    keeping: str = "",
    tell: TellMoved | None = None,
) -> int:
    """Make some messages due that wait for a hold, the oldest first; return how many. `profile` ...: of all.

    Copies that wait for something else, which is the meaning `keeping`, stay as they are.
    """
    others = recipients.c.meaning != keeping
    freed = (recipients.c.message == messages.c.id, recipients.c.state == messages.c.state, others)
    held = and_(messages.c.held_by == held_by, messages.c.lease_owner.is_(None), exists().where(*freed))
    if not isinstance(profile, EllipsisType):
        held = and_(held, messages.c.profile == profile_word(profile))
    facts = {
        "state": state,
        "reason": "",
        "next_attempt": now,
        "held_by": None,
        "held_since": None,
        "held_seconds": messages.c.held_seconds + _seconds_since(messages.c.held_since, now),
    }
    return _move_some(connection, held, limit, facts, messages.c.id, which_copies=others, tell=tell)  # ids sort by time


def make_some_due(
    connection: Connection, limit: int, *, profile: str | EllipsisType | None, now: datetime, pausing: str = ""
) -> int:
    """Make some waiting messages due that are not yet, of one profile or (`profile` ...) all; return how many.

    Those in the state `pausing` are left alone.
    """
    later = and_(is_waiting, messages.c.next_attempt > now, messages.c.state != pausing)
    if not isinstance(profile, EllipsisType):
        later = and_(later, messages.c.profile == profile_word(profile))
    return _move_some(connection, later, limit, {"next_attempt": now})


def _move_some(
    connection: Connection,
    which: ColumnElement[bool],
    limit: int,
    facts: dict[str, Any],
    *order: Column[str],
    which_copies: ColumnElement[bool] | None = None,
    copies: Mapping[str, str] = MappingProxyType({}),
    tell: TellMoved | None = None,
) -> int:
    """Change messages, and the state of the recipients that were in the message's own state.

    Of those only `which_copies`, where that is given; `copies` says what else becomes of them.
    """
    chosen = select(messages.c.id, messages.c.state).where(which).order_by(*order).limit(limit)
    found = connection.execute(chosen).all()
    if not found:
        return 0
    ids = [row.id for row in found]
    changed = update(messages).where(messages.c.id.in_(ids), which).values(facts).returning(messages.c.id)
    moved = set(connection.execute(changed).scalars())
    if "state" in facts and moved:
        follow = update(recipients).where(
            recipients.c.message == bindparam("of_message"), recipients.c.state == bindparam("of_state")
        )
        if which_copies is not None:
            follow = follow.where(which_copies)
        rows = [{"of_message": row.id, "of_state": row.state} for row in found if row.id in moved]
        connection.execute(follow.values(state=facts["state"], **copies), rows)
    if tell is not None and moved:
        tell(connection, moved)
    return len(moved)


def _seconds_since(moment: Column[datetime], now: datetime) -> ColumnElement[Any]:
    """Return how long ago a moment was, 0 where there is none or where it is to come: the clock was set back."""
    end = literal(microseconds(now), BigInteger)
    since = func.coalesce(type_coerce(moment, BigInteger), end)
    return case((since > end, 0.0), else_=(end - since) / 1_000_000.0)


def _is_over(server: str, username: str, address: str) -> ColumnElement[bool]:
    return and_(holds.c.server == server, holds.c.username == username, holds.c.address == address)
