"""What the words of states, meanings, phases and reports say to people, in one sentence each."""

from collections.abc import Mapping
from types import MappingProxyType

from relay.delivery.lifecycle import State
from relay.directory.model import Meaning
from relay.upstream.outcome import Phase

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
