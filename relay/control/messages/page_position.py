"""The place in a list of messages as text that a page hands back to see more; and the other words of such searches."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple, TypeAlias, TypeVar

from annotated_types import Ge, Le

from relay.control.messages.results import Page
from relay.control.refused import Refused
from relay.mail.address import Address, AddressError
from relay.store.queue.history import Place

Item = TypeVar("Item")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLACE = re.compile(r"([0-9]{1,17})-([0-9A-Za-z]{1,64})")

MessageLimit: TypeAlias = Annotated[int, Ge(1), Le(200)]
"""How many messages a page has: they are read and turned to JSON in one go, which must hold up no message."""


class Party(NamedTuple):
    """Whom a search asks for: a whole address (found at once), or a part of one; "" is the null sender."""

    whole: Address | None
    part: str
    is_null: bool = False


def place_word(place: Place | None) -> str | None:
    """Return a place as pages hand it back; None stays None."""
    return None if place is None else f"{(place.created - _EPOCH) // timedelta(microseconds=1)}-{place.id}"


def read_place(word: str | None) -> Place | None:
    """Return the place that `place_word` wrote. Raises Refused."""
    if word is None:
        return None
    found = _PLACE.fullmatch(word)
    try:
        return Place(_EPOCH + timedelta(microseconds=int(found[1])), found[2]) if found else _no_place()
    except OverflowError:
        return _no_place()


def _no_place() -> Place:
    raise Refused("this is no place in the list; leave after out to begin at the start", key="after") from None


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
    raise Refused(f"'{text}' is no time with a zone; write it as 2025-11-24T10:05:00Z", key=key)


def searched(text: str | None) -> str:
    """Return a text as the store has it, to be looked for there: trimmed, and what no database takes as "?"."""
    return (text or "").strip().encode("utf-8", "replace").decode().replace("\0", "?")


def page_of(items: Sequence[Item], next_: Place | None) -> Page[Item]:
    """Return a page of a list, and where the next one begins."""
    return Page(items, place_word(next_))
