"""Who has a message under way: leases with an owner and an end, and the fence that keeps a late owner out."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from heapq import nsmallest
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    cast,
    column,
    extract,
    func,
    literal_column,
    or_,
    select,
    true,
    type_coerce,
    union_all,
    update,
    values,
)

from relay.store.db.backend import Moment
from relay.store.db.errors import StoreError
from relay.store.db.prepared import moment
from relay.store.db.queue_tables import is_leased, is_waiting, messages
from relay.store.db.tables import Time, microseconds
from relay.store.queue.history import messages_of, open_attempts
from relay.store.queue.messages import Attempt, StoredMessage
from relay.store.queue.rows import profile_word

# How many are taken back at once.
_BATCH = 50
# So many profiles are looked up one by one.
_FEW = 100


class Lease(NamedTuple):
    """Whose a message under way is, and until when; `lasts`: how long, where the database says the moment."""

    owner: str
    until: Moment
    lasts: timedelta = timedelta()

    def value(self) -> int | None:
        """Return in microseconds when it ends, or for how long it lasts where the database says when it began."""
        return moment(self.until) if isinstance(self.until, datetime) else self.lasts // timedelta(microseconds=1)


# When a transaction began, by the clock of the database, as `relay.store.db.tables.Time` has it.
DATABASE_NOW = cast(func.floor(extract("epoch", func.now()) * literal_column("1000000")), BigInteger)
LASTS: BindParameter[int] = bindparam("of_lease", type_=BigInteger)


class Living(NamedTuple):
    """Which owners may be alive beside us, by what their names begin with.

    `run`: the processes of this start of the relay, but for `place`: those had our place before us. "" is nobody.
    `node`: of those that begin so we know all; of others, on other machines, we know nothing. "" is everybody.
    """

    run: str = ""
    place: str = ""
    node: str = ""


NOBODY = Living()


def is_dead(owner: ColumnElement[Any], living: Living) -> ColumnElement[bool]:
    """Whether an owner, who is not us, cannot be alive."""
    if not living.run:
        return true()
    is_beside_us = owner.startswith(living.run, autoescape=True)
    is_dead_here = or_(~is_beside_us, owner.startswith(living.place, autoescape=True))
    return and_(owner.startswith(living.node, autoescape=True), is_dead_here) if living.node else is_dead_here


def due_ids(connection: Connection, profiles: Collection[str | None], limit: int, now: datetime) -> list[str]:
    """Return what is due of some profiles, the longest overdue first. The cost grows with the number of profiles."""
    words = {profile_word(profile) for profile in profiles}
    if not words or limit < 1:
        return []
    if len(words) == 1:
        return list(connection.execute(_DUE_OF_ONE, {"word": words.pop(), "now": now, "most": limit}).scalars())
    first = _first_profiles(connection, words, limit, now)
    if not first:
        return []
    found = union_all(*(select(_due_of(word, limit, now).subquery()) for word in first)).subquery()
    ordered = select(found.c.id).order_by(found.c.next_attempt, found.c.id).limit(limit)
    return [row.id for row in connection.execute(ordered)]


class Due(NamedTuple):
    """What was found to be due at a moment, to be taken and to be in that state then."""

    ids: Sequence[str]
    state: str
    now: datetime


class Late(NamedTuple):
    """What has waited too long: due since a moment, and for so many seconds without its holds.

    `warned_seconds` counts for what was warned about already, and nothing in the state `pausing` is late.
    """

    due: datetime
    seconds: float
    warned_seconds: float
    pausing: str


def late_ids(
    connection: Connection, profiles: Collection[str | None], late: Late, limit: int, now: datetime
) -> list[str]:
    """Return what is late of some profiles, the oldest first. `now` is by the steady clock."""
    words = [profile_word(profile) for profile in profiles]
    uncounted = messages.c.held_seconds - messages.c.clock_ahead
    since = type_coerce(messages.c.created, BigInteger) + uncounted * 1_000_000
    patience = case((messages.c.warned, late.warned_seconds), else_=late.seconds)
    waits = (is_waiting, messages.c.profile.in_(words), messages.c.next_attempt <= late.due)
    is_late = (messages.c.state != late.pausing, since + patience * 1_000_000 <= microseconds(now))
    found = select(messages.c.id).where(*waits, *is_late).order_by(messages.c.id).limit(limit)  # ids sort by time
    return list(connection.execute(found).scalars())


def take(
    connection: Connection, ids: Sequence[str], lease: Lease, state: str, due: datetime | None
) -> list[StoredMessage]:
    """Take those of some messages that still wait (and are due by then, if given), and return them in that order."""
    still = [messages.c.id.in_(ids), is_waiting, *([messages.c.next_attempt <= due] if due else [])]
    taken = _take(connection, lease, select(messages.c.id).where(*still), state=state)
    found = {message.id: message for message in taken}
    return [found[id_] for id_ in ids if id_ in found]


def take_over(
    connection: Connection,
    lease: Lease,
    expired: Moment | None,
    living: Living | None = NOBODY,
    doubtful: Collection[str] = (),
) -> list[tuple[StoredMessage, Attempt | None]]:
    """Take some messages that others left under way, and return them with their open attempts.

    Those of who is dead by what is known of the `living` (None: nothing is), and, where `expired` is given, those
    whose lease had ended by then. `doubtful` are messages that are nobody's where they are ours.
    """
    owner = messages.c.lease_owner
    reasons = [is_dead(owner, living)] if living is not None else []
    if expired is not None:
        reasons.append(messages.c.lease_until <= expired)
    lost = and_(owner != lease.owner, or_(*reasons))
    if doubtful:
        lost = or_(lost, and_(owner == lease.owner, messages.c.id.in_(doubtful)))
    found = _take(connection, lease, select(messages.c.id).where(is_leased, lost).limit(_BATCH))
    open_ones = open_attempts(connection, [message.id for message in found])
    return [(message, open_ones.get(message.id)) for message in sorted(found, key=lambda each: each.id)]


def renew(connection: Connection, lease: Lease) -> None:
    """Let every lease of its owner last until then."""
    mine = update(messages).where(is_leased, messages.c.lease_owner == lease.owner)
    connection.execute(mine.values(lease_until=lease.until))


def due_times(connection: Connection) -> dict[str | None, datetime]:
    """Return when the first waiting message of every profile is due. The cost grows with the number of profiles."""
    found = connection.execute(_DUE_TIMES)
    return {row.profile or None: row.due for row in found}


def _due_times() -> Select[Any]:
    """Select every profile that has waiting mail, and when the first of it is due.

    Neither database leaps from group to group of an index by itself, so each profile is asked for the one behind it.
    """
    found = select(func.min(messages.c.profile).label("profile")).where(is_waiting).cte("found", recursive=True)
    behind = select(func.min(messages.c.profile)).where(is_waiting, messages.c.profile > found.c.profile)
    found = found.union_all(select(behind.scalar_subquery()).where(found.c.profile.is_not(None)))
    first = select(func.min(type_coerce(messages.c.next_attempt, BigInteger)))
    due = first.where(is_waiting, messages.c.profile == found.c.profile).scalar_subquery()
    return select(found.c.profile, type_coerce(due, Time).label("due")).where(found.c.profile.is_not(None))


_DUE_TIMES = _due_times()


def _take(connection: Connection, lease: Lease, which: Select[tuple[str]], **facts: str) -> list[StoredMessage]:
    """Take messages. What another machine takes at this moment is left to it, and nobody waits for that.

    Which they are is found out once, whatever plan the database makes of the rest: so it stands apart (a CTE).
    """
    free = which.with_for_update(skip_locked=True).cte("free")
    taken = update(messages).where(messages.c.id.in_(select(free.c.id))).values(fence=messages.c.fence + 1, **facts)
    owned = taken.values(lease_owner=lease.owner, lease_until=lease.until).returning(*messages.c)
    return messages_of(connection, connection.execute(owned).all())


def _first_profiles(connection: Connection, words: set[str], limit: int, now: datetime) -> list[str]:
    """Return at most `limit` of the profiles: those that have the longest overdue messages.

    The first `limit` messages of all are among theirs.
    """
    if len(words) <= _FEW:
        return [row.profile for row in connection.execute(_heads(sorted(words), limit, now))]
    # To leap through the index takes less than to name so many.
    heads = ((row.due, row.profile) for row in connection.execute(_DUE_TIMES))
    return [word for _, word in nsmallest(limit, (head for head in heads if head[0] <= now and head[1] in words))]


_DUE_OF_ONE = (
    select(messages.c.id)
    .where(is_waiting, messages.c.next_attempt <= bindparam("now"), messages.c.profile == bindparam("word"))
    .order_by(messages.c.next_attempt, messages.c.id)
    .limit(bindparam("most"))
)


def _due_of(word: str, limit: int, now: datetime) -> Select[Any]:
    """Select what is due of a profile: one range of the index."""
    due = select(messages.c.id, messages.c.next_attempt).where(is_waiting, messages.c.next_attempt <= now)
    return due.where(messages.c.profile == word).order_by(messages.c.next_attempt, messages.c.id).limit(limit)


def _heads(words: Sequence[str], limit: int, now: datetime) -> Select[Any]:
    """Select the profiles that have the longest overdue messages, the first of them first: one look a profile."""
    rows = values(column("profile", messages.c.profile.type), name="wanted")
    wanted = rows.data([(word,) for word in words]).cte("wanted")
    due = (is_waiting, messages.c.next_attempt <= now, messages.c.profile == wanted.c.profile)
    head = select(func.min(type_coerce(messages.c.next_attempt, BigInteger))).where(*due).scalar_subquery()
    heads = select(wanted.c.profile, head.label("head")).subquery()
    return select(heads.c.profile).where(heads.c.head.is_not(None)).order_by(heads.c.head).limit(limit)


class InDoubt:
    """Adds ids to those in doubt where the block ends with a StoreError, and takes them out where it ends well."""

    __slots__ = ("_doubtful", "_ids")

    def __init__(self, doubtful: set[str], ids: Collection[str]) -> None:
        self._doubtful = doubtful
        self._ids = ids

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: object) -> None:
        """Remember, or forget; what else is raised tells nothing."""
        if kind is None:
            if self._doubtful:
                self._doubtful.difference_update(self._ids)
        elif isinstance(fault, StoreError):
            self._doubtful.update(self._ids)
