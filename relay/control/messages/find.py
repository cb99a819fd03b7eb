"""Finds messages: one by its id or how that begins, long lists page by page, and what a search asks for in words.

The place in a list of messages is text that a page hands back to see more.
"""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple, Protocol, TypeAlias, TypeVar

from annotated_types import Ge, Le

from relay.config.faults import did_you_mean
from relay.control.context import ControlContext
from relay.control.messages.results import Page
from relay.control.refused import NotFound, Refused
from relay.delivery.outcome import State
from relay.mail.address import Address, AddressError
from relay.store.queue.messages import StoredMessage
from relay.store.queue.search import ListPosition

Told = TypeVar("Told")
Item = TypeVar("Item")

_SHORTEST_ID = 6
# A page is read, turned to JSON and sent in one go: large enough for speed, small enough to hold up no message.
PAGE = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLACE = re.compile(r"([0-9]{1,17})-([0-9A-Za-z]{1,64})")
MessageLimit: TypeAlias = Annotated[int, Ge(1), Le(200)]
"""How many messages a page has: they are read and turned to JSON in one go, which must hold up no message."""


class ReadPage(Protocol):
    """Reads the next page of a list: at most `limit` messages that follow `after`, None being the beginning."""

    async def __call__(self, after: StoredMessage | None, limit: int) -> list[StoredMessage]:
        """Return the page, empty at the end."""


async def find_message(parts: ControlContext, id_: str) -> StoredMessage:
    """Return the message with this id, or the one whose id begins so. Raises Refused."""
    given = id_.strip().lower()
    if len(given) < _SHORTEST_ID:
        raise Refused(f"'{id_}' is too short; give at least {_SHORTEST_ID} characters of the id")
    is_one = given.isascii() and given.isalnum()
    ids = await parts.queue.ids_starting(given, limit=2) if is_one else []
    message = await parts.queue.message(ids[0]) if len(ids) == 1 else None
    if len(ids) > 1:
        raise Refused(f"several ids begin with '{id_}'; give more of it")
    if message is None:
        raise NotFound(f"there is no message '{id_}'")
    return message


def known_state(word: str | None, *, only_open: bool = False) -> str | None:
    """Return a state as the store has it; None stays None. Raises Refused for a word that is none."""
    if word is None:
        return None
    known = [str(state) for state in State if not (only_open and state.is_final)]
    if word not in known:
        meant = f"{did_you_mean(word, known)}; it is one of {', '.join(known)}"
        raise Refused(f"there is no state '{word}'{meant}", key="state")
    return word


async def records_of(read: ReadPage, record: Callable[[StoredMessage], Told]) -> AsyncIterator[list[Told]]:
    """Yield the records of a list, a page at a time, so that no list is ever whole in memory."""
    after: StoredMessage | None = None
    while page := await read(after, PAGE):
        yield [record(message) for message in page]
        after = page[-1]
        if len(page) < PAGE:
            return


class Party(NamedTuple):
    """Whom a search asks for: a whole address (found at once), or a part of one; "" is the null sender."""

    whole: Address | None
    part: str
    is_null: bool = False


def place_word(place: ListPosition | None) -> str | None:
    """Return a place as pages hand it back; None stays None."""
    return None if place is None else f"{(place.created - _EPOCH) // timedelta(microseconds=1)}-{place.id}"


def read_place(word: str | None) -> ListPosition | None:
    """Return the place that `place_word` wrote. Raises Refused."""
    if word is None:
        return None
    found = _PLACE.fullmatch(word)
    try:
        return ListPosition(_EPOCH + timedelta(microseconds=int(found[1])), found[2]) if found else _no_place()
    except OverflowError:
        return _no_place()


def _no_place() -> ListPosition:
    raise Refused("this is not a place in the list; leave after out to begin at the start", key="after") from None


def read_party(text: str | None) -> Party:
    """Return whom a text means: "jane@acmejets.example" is a whole address, "@acmejets.example" and "jane" are parts.

    "<>" is the null sender.
    """
    bare = searched(text)
    if bare == "<>":
        return Party(None, "", is_null=True)
    bare = bare.removeprefix("<").removesuffix(">")
    try:
        return Party(Address.parse(bare), "") if bare and not bare.startswith("@") else Party(None, bare)
    except AddressError:
        return Party(None, bare)


def read_time(text: str | None, key: str = "") -> datetime | None:
    """Return a time of RFC 3339. Raises Refused."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):  # no time, or one outside of what a calendar has
        pass
    raise Refused(f"'{text}' is not a time with a zone; write it as 2025-11-24T10:05:00Z", key=key)


def searched(text: str | None) -> str:
    """Return a text as the store has it, to be looked for there: trimmed, and what no database takes as "?"."""
    return (text or "").strip().encode("utf-8", "replace").decode().replace("\0", "?")


def page_of(items: Sequence[Item], next_: ListPosition | None) -> Page[Item]:
    """Return a page of a list, and where the next one begins."""
    return Page(items, place_word(next_))
