"""What operations say, as pages say it.

The sentences of the operations are the same for everybody, and often end with the command that does what they advise,
behind a colon or "see" (`relay.cli.session.Session.told` counts on that, too). A page has a form or a button for it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from relay import log
from relay.control.actor import Actor, Role
from relay.control.refused import Refused, Unavailable

# The nouns that have pages. `relay secrets import` and its like nothing else does.
_NOUNS = "account|admin|agent|application|channel|messages|provider|queue|script|server|token"
_COMMAND = re.compile(rf"(?:(?:,? with)?: |; see )relay (?:{_NOUNS}) [a-z]+\b.*$", re.MULTILINE)
_NOT_NOW = "this cannot be done just now; relay's log says why"
_TITLES = {403: "This is not allowed", 404: "There is nothing here", 503: "Not just now"}


def told(sentence: str) -> str:
    """Return what an operation said, without the command at its end."""
    return _COMMAND.sub("", sentence)


def sentences(error: Refused) -> list[str]:
    """Return what is wrong, one sentence each: not the words for a terminal, which begin with the path of the file."""
    faults = [": ".join(filter(None, (fault.key, fault.message))) for fault in error.faults]
    return faults or str(error).splitlines()


def in_short(error: Refused) -> str:
    """Return the first thing that is wrong, and how many there are beside it."""
    first, *others = sentences(error) or [""]
    return f"{first} ({len(others):,} more like this)" if others else first


def title(status: int) -> str:
    """Return the heading of a page that says no."""
    return _TITLES.get(status, "That was not done")


def not_now(error: Refused) -> Unavailable:
    """Return what strangers are told of a store that cannot be used, which the log has in full."""
    log.broken(f"a page could not be shown: {error}")
    return Unavailable(_NOT_NOW)


@contextmanager
def as_told(actor: Actor | None) -> Iterator[None]:
    """Let what operations refuse meanwhile be said as a page says it to somebody.

    SECURITY: that the store cannot be used, and where it is, is for administrators alone.
    """
    try:
        yield
    except Unavailable as error:
        if actor is not None and actor.role is Role.ADMINISTRATOR:
            raise
        raise not_now(error) from None
    except Refused as error:
        error.args = (told(str(error)),)
        error.faults = tuple(replace(fault, message=told(fault.message)) for fault in error.faults)
        raise
