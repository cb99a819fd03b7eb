"""Lists of messages: the queue, and the search of the queue and the history page by page, with bounded work.

What no index answers is looked through in windows: so many messages at once as cost little, then, where the page is not
full, the next ones. Whoever asks says when to stop; the position up to which the list was looked through continues it.
"""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, Select, Text, false, func, literal, or_, select, tuple_

from relay.mail.address import Address
from relay.store.db.queue_tables import is_open, messages, recipients
from relay.store.db.tables import Time
from relay.store.queue.history import select_messages, whose
from relay.store.queue.messages import StoredMessage
from relay.store.queue.rows import profile_word

# Messages that one statement looks at: some 50 ms of work.
WINDOW = 10_000
_position = tuple_(messages.c.created, messages.c.id)


class ListPosition(NamedTuple):
    """A position in a list of messages, which are in the order of these two: behind or before a message."""

    created: datetime
    id: str


class SearchCriteria(NamedTuple):
    """What a search asks for; None and "" ask for nothing. A Message-ID may stand with or without its angle brackets.

    The first ones are answered from an index, those behind `profile` only by looking at every message, and `profile`
    itself from one where only times narrow it down. `sender` "" is the null sender. `profiles` are any of several, with
    what waits for the hold `held_by`. The others are parts of texts, without case: of the sender, of a recipient, of
    the subject, or of one of these and the Message-ID.
    """

    sender: Address | Literal[""] | None = None
    to: Address | None = None
    since: datetime | None = None
    state: str | None = None
    message_id: str | None = None
    until: datetime | None = None
    profile: str | None = None
    profiles: Collection[str] | None = None
    held_by: str = ""
    sender_part: str = ""
    to_part: str = ""
    subject: str = ""
    contains: str = ""


def list_queue(
    connection: Connection, profile: str | None, state: str | None, limit: int, after: StoredMessage | None
) -> list[StoredMessage]:
    """Return what is in the queue, of one profile or all, the oldest first, behind `after`."""
    found = select(messages).where(is_open).order_by(messages.c.created, messages.c.id).limit(limit)
    if profile is not None:
        found = found.where(_is_of_profile(profile))
    if state is not None:
        found = found.where(messages.c.state == state)
    if after is not None:
        found = found.where(_position > _place_of(after))
    return select_messages(connection, found)


def search(
    connection: Connection, wanted: SearchCriteria, limit: int, after: StoredMessage | None
) -> list[StoredMessage]:
    """Return messages, the newest first, behind `after`."""
    found = select(messages).where(*_indexed_conditions(wanted)).limit(limit)
    if after is not None:
        found = found.where(_position < _place_of(after))
    return select_messages(connection, found.order_by(messages.c.created.desc(), messages.c.id.desc()))


def messages_among(connection: Connection, wanted: SearchCriteria, ids: Collection[str]) -> list[StoredMessage]:
    """Return those of these messages that are asked for, the oldest first."""
    found = select(messages).where(messages.c.id.in_(ids), *_indexed_conditions(wanted))
    return select_messages(connection, found.order_by(messages.c.created, messages.c.id))


def ids_starting(connection: Connection, prefix: str, limit: int) -> list[str]:
    """Return at most `limit` ids that begin with a prefix, in their order."""
    if not prefix:
        return []
    # A range, because LIKE reads the index in neither database.
    behind = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    found = select(messages.c.id).where(messages.c.id >= prefix, messages.c.id < behind)
    return list(connection.execute(found.order_by(messages.c.id).limit(limit)).scalars())


class Found(NamedTuple):
    """A page of messages, and the place behind which the list goes on; None at its end.

    There may be fewer than were asked for and still more to come: where looking further would have taken too long.
    """

    messages: list[StoredMessage]
    next: ListPosition | None


class PagedSearch(NamedTuple):
    """A search in one direction: through what waits, the oldest first, or through everything, the newest first."""

    wanted: SearchCriteria
    is_waiting: bool

    @property
    def is_indexed(self) -> bool:
        """Whether an index answers it, so that every message that is looked at is one of those that were asked for."""
        return not any(True for _ in self._others())

    @property
    def _has_profile_index(self) -> bool:
        """Whether the messages of the profile are read from its index.

        Not where a second index could narrow them down: each message of the one would be looked at for the other. And
        not in what waits, which is little among all that a profile ever sent.
        """
        wanted = self.wanted
        narrower = (wanted.sender, wanted.to, wanted.state, wanted.message_id)
        return not self.is_waiting and wanted.profile is not None and narrower == (None, None, None, None)

    def _others(self) -> Iterator[ColumnElement[bool]]:
        """Yield the conditions that no index answers."""
        if self.wanted.profile is not None and not self._has_profile_index:
            yield _is_of_profile(self.wanted.profile)
        yield from _others(self.wanted)

    def window(
        self, connection: Connection, *, after: ListPosition | None, limit: int
    ) -> tuple[list[StoredMessage], ListPosition | None]:
        """Return at most `limit` messages of the next window, and its last place; None where the list ends in it."""
        end = None if self.is_indexed else self._window_end(connection, after)
        statement = self._ordered(select(messages), after).where(*self._others()).limit(limit)
        if end is not None:
            here = _place_of(end)
            statement = statement.where(_position <= here if self.is_waiting else _position >= here)
        return select_messages(connection, statement), end

    def _window_end(self, connection: Connection, after: ListPosition | None) -> ListPosition | None:
        statement = self._ordered(select(messages.c.created, messages.c.id), after).offset(WINDOW - 1).limit(1)
        row = connection.execute(statement).first()
        return ListPosition(row.created, row.id) if row else None

    def _ordered(self, statement: Select[Any], after: ListPosition | None) -> Select[Any]:
        statement = statement.where(*_indexed_conditions(self.wanted))
        if self.wanted.profile is not None and self._has_profile_index:
            statement = statement.where(messages.c.profile == profile_word(self.wanted.profile))
        if self.is_waiting:
            statement = statement.where(is_open).order_by(messages.c.created, messages.c.id)
        else:
            statement = statement.order_by(messages.c.created.desc(), messages.c.id.desc())
        if after is not None:
            here = _place_of(after)
            statement = statement.where(_position > here if self.is_waiting else _position < here)
        return statement


def _others(wanted: SearchCriteria) -> Iterator[ColumnElement[bool]]:
    if wanted.profiles is not None:
        of_hold = messages.c.held_by == wanted.held_by if wanted.held_by else false()
        yield or_(messages.c.profile.in_(wanted.profiles), of_hold)
    if wanted.sender_part:
        yield has_text(messages.c.sender, wanted.sender_part)
    if wanted.to_part:
        yield _has_recipient(wanted.to_part)
    if wanted.subject:
        yield has_text(messages.c.subject, wanted.subject)
    if wanted.contains:
        own = (messages.c.sender, messages.c.subject, messages.c.message_id)
        yield or_(*(has_text(column, wanted.contains) for column in own), _has_recipient(wanted.contains))


def _has_recipient(text: str) -> ColumnElement[bool]:
    # Not EXISTS, for which PostgreSQL would rather look through all recipients that there are, once for each window.
    theirs = select(recipients.c.number).where(recipients.c.message == messages.c.id)
    return theirs.where(has_text(recipients.c.address, text)).limit(1).scalar_subquery().is_not(None)


def has_text(column: Column[Any], text: str) -> ColumnElement[bool]:
    """Return whether a text is in a column, without case.

    SQLite's lower() knows the letters of ASCII alone, so that others stand there as they were written: all of them
    small, or all of them capitals.
    """
    small = text.lower()
    capitals = "".join(one if one.isascii() or len(one.upper()) != 1 else one.upper() for one in small)
    return or_(*(func.lower(column).contains(one, autoescape=True) for one in dict.fromkeys((small, capitals))))


def _place_of(place: StoredMessage | ListPosition) -> ColumnElement[Any]:
    """Return a place as `position` compares with it."""
    return tuple_(literal(place.created, Time), literal(place.id, Text))


def _is_of_profile(profile: str | None) -> ColumnElement[bool]:
    """Return the condition for a profile's messages, asked of those that another index gives."""
    return whose == profile_word(profile)


def _indexed_conditions(wanted: SearchCriteria) -> list[ColumnElement[bool]]:
    """Return what an index answers."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.sender is not None:
        conditions.append(
            messages.c.sender_key == wanted.sender.key if wanted.sender else messages.c.sender_key.is_(None)
        )
    if wanted.to is not None:
        theirs = select(recipients.c.message).where(recipients.c.address_key == wanted.to.key)
        conditions.append(messages.c.id.in_(theirs))
    if wanted.since is not None:
        conditions.append(messages.c.created >= wanted.since)
    if wanted.until is not None:
        conditions.append(messages.c.created < wanted.until)
    if wanted.state is not None:
        conditions.append(messages.c.state == wanted.state)
    if wanted.message_id is not None:
        bare = wanted.message_id.strip().removeprefix("<").removesuffix(">")
        conditions.append(messages.c.message_id.in_([bare, f"<{bare}>"]))
    return conditions
