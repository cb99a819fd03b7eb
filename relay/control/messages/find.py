"""Finds a message by its id or by how that begins, and reads long lists page by page."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeVar

from relay.config.faults import did_you_mean
from relay.control.context import Parts
from relay.control.refused import NotFound, Refused
from relay.delivery.lifecycle import State
from relay.store.queue.messages import StoredMessage

Told = TypeVar("Told")

_SHORTEST_ID = 6
# A page is read, turned to JSON and sent in one go: large enough for speed, small enough to hold up no message.
PAGE = 200


class ReadPage(Protocol):
    """Reads the next page of a list: at most `limit` messages that follow `after`, None being the beginning."""

    async def __call__(self, after: StoredMessage | None, limit: int) -> list[StoredMessage]:
        """Return the page, empty at the end."""


async def find_message(parts: Parts, id_: str) -> StoredMessage:
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
