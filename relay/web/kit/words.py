"""What operations say, as pages say it: sentences and refusals, and the words of states, meanings, phases and reports.

The sentences of the operations are the same for everybody, and often end with the command that does what they advise,
behind a colon or "see" (`relay.cli.invocation` counts on that, too). A page has a form or a button for it.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

from relay import log
from relay.control.actor import Actor, Role
from relay.control.refused import Refused, Unavailable
from relay.control.tests.results import LoginCheck, LoginState
from relay.delivery.outcome import State
from relay.directory.model import Meaning
from relay.upstream.outcome import Phase

# The nouns that have pages. `relay secrets import` and its like nothing else does.
_NOUNS = "account|admin|agent|application|channel|messages|provider|queue|script|server|token"
_COMMAND = re.compile(rf"(?:(?:,? with)?: |; see )relay (?:{_NOUNS}) [a-z]+\b.*$", re.MULTILINE)
_NOT_NOW = "this cannot be done just now; relay's log says why"
_TITLES = {403: "This is not allowed", 404: "There is nothing here", 503: "Not just now"}
STATES: Mapping[str, str] = MappingProxyType(
    {
        State.QUEUED: "It waits for its next attempt.",
        State.SENDING: "It is being handed over just now.",
        State.UNKNOWN: (
            "The server got the whole message and never answered, so it may have it. "
            "It is tried once more after a pause; after that a person decides."
        ),
        State.HELD: "It waits for a person. Nothing is sent, and nothing comes back to its sender.",
        State.DELIVERED: "The server took it for every recipient.",
        State.FAILED: "At least one recipient does not get it.",
        State.REMOVED: "Somebody took it out of the queue. Nobody was told.",
    }
)
MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        Meaning.REFUSED: "The server refuses it for good. It is not tried again.",
        Meaning.TEMPORARY: "The server cannot take it now. It is tried again later.",
        Meaning.THROTTLE: "The server asks for a slower pace. The account pauses, then goes on.",
        Meaning.QUOTA: "The provider's limit is used up. The account waits until its window is over.",
        Meaning.LOCK_OUT: "The provider has locked the account for a while. It waits until that is over.",
        Meaning.LOGIN_REFUSED: "The login was refused. The account is held until it has another password.",
        Meaning.IDENTITY_REFUSED: "The account may not send as this address. Mail of the two is held.",
        Meaning.ACCOUNT_FULL: "The account's own mailbox is full. It waits until there is room.",
        Meaning.UNKNOWN: "No answer came after the whole message was sent: the server may have it.",
    }
)
PHASES: Mapping[str, str] = MappingProxyType(
    {
        Phase.RESOLVE: "looking up the server's name",
        Phase.CONNECT: "connecting",
        Phase.GREETING: "waiting for the server's greeting",
        Phase.EHLO: "greeting the server (EHLO)",
        Phase.STARTTLS: "beginning encryption (TLS)",
        Phase.LOGIN: "logging in (AUTH)",
        Phase.MAIL: "naming the sender (MAIL)",
        Phase.RCPT: "naming the recipients (RCPT)",
        Phase.DATA: "announcing the message (DATA)",
        Phase.CONTENT: "sending the message",
        Phase.FINAL: "waiting for the answer to the whole message",
    }
)
REPORTS: Mapping[str, str] = MappingProxyType(
    {
        "failed": "tells the sender who does not get it",
        "delayed": "tells the sender that it is late",
        "delivered": "tells the sender that it was passed on",
    }
)

KEEP = "It was not saved. Enter the right one, or enter this one again and choose Save anyway."
"""What follows where a mail server refused a password."""


def login_words(login: LoginCheck) -> str:
    """Return what is said behind "the password is saved" of a mail password; "" where nothing was tried."""
    match login.state:
        case LoginState.WORKS:
            return " and works"
        case LoginState.UNKNOWN:
            return f", but not tested: {login.detail}"
    return ""


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
