"""What a client is told: the replies of DESIGN section 6 that depend on routes and upstreams. Pure.

A reply says what the sender can do. Servers' own words are passed on where they are about the message or a
recipient; what is about accounts, settings or machines stays in the log.
"""

from relay.directory.model import Meaning
from relay.mail.address import Address
from relay.mail.reply import Reply
from relay.upstream.outcome import Failure

AUTHENTICATION_REQUIRED = Reply(530, "5.7.0", "Authentication required")
NULL_SENDER_WITHOUT_FROM = Reply(
    550, "5.7.1", "<>: mail without a sender needs one From address that a channel or agent sends from"
)
TOOK_TOO_LONG = Reply(451, "4.4.1", "The outgoing mail server took too long; please try again later")
STORE_FULL = Reply(452, "4.3.1", "There is no room for the message now; please try again later")
STORE_BROKEN = Reply(451, "4.3.0", "The message cannot be stored now; please try again later")
PACED = Reply(451, "4.7.0", "The sending limit of this account is used up for now; please try again later")
STOPPING = Reply(421, "4.3.2", "The service is stopping; please try again in a moment")
FAULT = Reply(451, "4.3.0", "Something went wrong here; please try again later")
CLIENT_LEFT = Reply(451, "4.4.2", "The client left before the message was handed over")

_HELD = "4.7.8"  # whatever holds an account (DESIGN section 6)
# What a sender can do about an answer that is no refusal of the message: mostly wait, sometimes ask.
_LATER = {
    Meaning.TEMPORARY: ("4.4.1", "The outgoing mail server cannot take the message now; please try again later"),
    Meaning.THROTTLE: ("4.7.0", "The outgoing mail server asks for a slower pace; please try again later"),
    Meaning.QUOTA: (_HELD, "The provider's sending limit of this account is used up for now; please try again later"),
    Meaning.LOCK_OUT: (
        _HELD,
        "The provider has locked this account for a while; please try again later, or tell your administrator",
    ),
    Meaning.LOGIN_REFUSED: (
        _HELD,
        "The email password for the mail server is missing or wrong; please check it, or tell your administrator",
    ),
    Meaning.IDENTITY_REFUSED: (
        _HELD,
        "The outgoing mail server does not let this account use the address; please tell your administrator",
    ),
    Meaning.ACCOUNT_FULL: (
        _HELD,
        "The mailbox of this account is full; please delete mail in it, or tell your administrator",
    ),
    Meaning.UNKNOWN: ("4.4.2", "The outgoing mail server did not confirm the message; please try again later"),
}


def no_profile(sender: Address) -> Reply:
    """Nobody of ours sends from this address."""
    return Reply(550, "5.7.1", f"<{sender}>: no channel or agent sends from this address")


def not_yours(sender: Address, client: str) -> Reply:
    """The client may not use this sender."""
    return Reply(550, "5.7.1", f"<{sender}>: {client} may not send as this address")


def no_password(sender: Address | None, url: str) -> Reply:
    """An overriding profile has no email password yet."""
    where = f"; set it at {url}" if url else ""
    return Reply(550, "5.7.8", f"<{sender or ''}>: no email password is configured for this account{where}")


def too_many_recipients(recipients: int, most: int) -> Reply:
    """A message that may not be stored, and so not be split, has more recipients than its server ever takes."""
    said = f"The message has {recipients} recipients, and its mail server takes {most}; send it to fewer at a time"
    return Reply(554, "5.5.3", said)


def delivered(server: str, upstream: Reply) -> Reply:
    """Every recipient was accepted upstream."""
    return Reply(250, "2.0.0", f"Ok: delivered via {server}: {upstream.text}")  # both are clean by their type


def queued(message: str) -> Reply:
    """The message is on disk, and ours to deliver."""
    return Reply(250, "2.0.0", f"Ok: queued as {message}")


def of_meaning(meaning: Meaning) -> Reply:
    """What a client is told while mail of this account cannot leave, whatever the reason is called upstream."""
    return Reply(451, *_LATER.get(meaning, _LATER[Meaning.TEMPORARY]))


def of_failure(failure: Failure) -> Reply:
    """What a client in mode `direct` is told about a message that its upstream did not take.

    A refusal is passed on in the upstream's code and words, everything else is 451 (DESIGN section 5).
    """
    if failure.meaning is Meaning.REFUSED and failure.reply.is_permanent:
        return failure.reply
    if failure.meaning is Meaning.TEMPORARY and failure.from_server and failure.reply.is_temporary:
        return Reply(451, failure.reply.enhanced, failure.reply.text)
    return of_meaning(failure.meaning)
