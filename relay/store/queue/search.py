"""Searching the queue and the history page by page, for what no index answers too, with bounded work.

A list is looked through in windows: so many messages at once as cost little, then, where the page is not full, the
next ones. Whoever asks says when to stop; the place up to which the list was looked through continues it.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, Select, false, func, or_, select

from relay.store.db.tables import is_open, messages, recipients
from relay.store.queue.history import (
    ListPosition,
    SearchCriteria,
    indexed_conditions,
    is_of_profile,
    place_of,
    position,
    select_messages,
)
from relay.store.queue.messages import StoredMessage
from relay.store.queue.rows import profile_word

# Messages that one statement looks at: some 50 ms of work.
WINDOW = 10_000


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
            yield is_of_profile(self.wanted.profile)
        yield from _others(self.wanted)

    def window(
        self, connection: Connection, *, after: ListPosition | None, limit: int
    ) -> tuple[list[StoredMessage], ListPosition | None]:
        """Return at most `limit` messages of the next window, and its last place; None where the list ends in it."""
        end = None if self.is_indexed else self._window_end(connection, after)
        statement = self._ordered(select(messages), after).where(*self._others()).limit(limit)
        if end is not None:
            here = place_of(end)
            statement = statement.where(position <= here if self.is_waiting else position >= here)
        return select_messages(connection, statement), end

    def _window_end(self, connection: Connection, after: ListPosition | None) -> ListPosition | None:
        statement = self._ordered(select(messages.c.created, messages.c.id), after).offset(WINDOW - 1).limit(1)
        row = connection.execute(statement).first()
        return ListPosition(row.created, row.id) if row else None

    def _ordered(self, statement: Select[Any], after: ListPosition | None) -> Select[Any]:
        statement = statement.where(*indexed_conditions(self.wanted))
        if self.wanted.profile is not None and self._has_profile_index:
            statement = statement.where(messages.c.profile == profile_word(self.wanted.profile))
        if self.is_waiting:
            statement = statement.where(is_open).order_by(messages.c.created, messages.c.id)
        else:
            statement = statement.order_by(messages.c.created.desc(), messages.c.id.desc())
        if after is not None:
            here = place_of(after)
            statement = statement.where(position > here if self.is_waiting else position < here)
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
