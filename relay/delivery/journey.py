"""The journey of one message as facts: who handed it over, as whom it left, what changed, and what came of it.

The log, the demo and the message history tell the same story from this one record. It holds no body and no secret.
"""

from dataclasses import dataclass
from enum import StrEnum

from relay.directory.client import Client
from relay.directory.routing import Route
from relay.mail.address import Address
from relay.mail.envelope import Envelope
from relay.mail.header import Change
from relay.mail.reply import Reply
from relay.mail.trace import Arrival


class Ending(StrEnum):
    """How a submission ended for its client."""

    DELIVERED = "delivered"  # the upstream took it for every recipient
    QUEUED = "queued"  # on disk, and ours to deliver
    DEFERRED = "deferred"  # not now; the client keeps it and may try again
    FAILED = "failed"  # refused upstream, for good
    REFUSED = "refused"  # refused by us, before any upstream heard of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """One submission from its client's final dot to the reply. Times are seconds."""

    ending: Ending
    arrival: Arrival
    client: Client
    envelope: Envelope
    size: int
    reply: Reply
    seconds: float
    message_id: str = ""
    route: Route | None = None
    sender: Address | None = None  # the envelope sender that left; None is the null sender
    changes: tuple[Change, ...] = ()
    upstream: Reply | None = None  # the server's own words
    phase: str = ""  # how far the hand-over came, where it did not end well
    tls: str = ""
    detail: str = ""  # for the log alone: what a library said
