"""What happens to messages and accounts, for the log, the counters and the demo: one record of a submission, and one
function for each event.

A `Journey` tells of one submission: who handed it over, as whom it left, what changed, and what came of it. It holds
no body and no secret. `accepted`, `routed` and `attempted` are steps and told at debug. The keys are the same wherever
a message stands: `account` is SERVER/USERNAME, `upstream` the server's own words, `reply` what the client was told,
`seconds` the time since the message came, or how long an attempt took.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from relay import log
from relay.delivery.outcome import State
from relay.directory.client import Client
from relay.directory.model import Account, Server
from relay.directory.routing import Route
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Envelope
from relay.mail.header import Edited
from relay.mail.reply import Reply
from relay.mail.trace import Arrival
from relay.metrics import Metrics
from relay.store.queue.messages import Attempt, HoldRow, StoredMessage
from relay.system.fault_barrier import guards_itself, harmless, tell_fault
from relay.upstream.outcome import Outcome


class Ending(StrEnum):
    """How a submission ended for its client."""

    DELIVERED = "delivered"  # the upstream took it for every recipient
    QUEUED = "queued"  # on disk, and ours to deliver
    DEFERRED = "deferred"  # not now; the client keeps it and may try again
    FAILED = "failed"  # refused upstream, for good
    REFUSED = "refused"  # refused by us, before any upstream heard of it


@dataclass(unsafe_hash=True, slots=True, kw_only=True)
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
    edited: Sequence[Edited] = ()  # what was done to its header
    upstream: Reply | None = None  # the server's own words
    phase: str = ""  # how far the hand-over came, where it did not end well
    tls: str = ""
    detail: str = ""  # for the log alone: what a library said
    traceparent: str = ""  # of its header, where `MessageEvents.is_traced`


# What is known of a message without its body, and of each of its recipients.
_OCTETS, _RECIPIENT_OCTETS = 2000, 200
_ENDINGS: Mapping[Ending, Callable[..., None]] = MappingProxyType(
    {
        Ending.DELIVERED: log.delivered,
        Ending.QUEUED: log.queued,
        Ending.DEFERRED: log.deferred,
        Ending.FAILED: log.failed,
        Ending.REFUSED: log.refused,
    }
)
# How a message stands after an attempt. One that waits on, for whatever reason, is deferred.
_STATES: Mapping[str, Callable[..., None]] = MappingProxyType(
    {State.DELIVERED: log.delivered, State.FAILED: log.failed, State.HELD: log.held}
)


class Tried(Protocol):
    """An attempt and its message, which may have to be made (`relay.delivery.work.Work`)."""

    attempt: Attempt
    content: Content

    @property
    def message(self) -> StoredMessage:
        """The message."""


@harmless
@dataclass(frozen=True, slots=True)
class MessageEvents:
    """Tells what happens to the messages and accounts of one relay."""

    is_traced: ClassVar[bool] = False  # whether it wants to know of traces (relay.app.spans)
    metrics: Metrics = field(default_factory=Metrics)

    @guards_itself
    def submitted(self, journey: Journey) -> None:
        """A client has its reply to a message."""
        try:
            metrics, ending = self.metrics, journey.ending
            server = journey.route.server.name if journey.route else ""
            metrics.submitted(ending, server)
            if ending is Ending.DELIVERED:
                metrics.delivered(server, journey.seconds)
            elif ending is Ending.FAILED:
                metrics.failed(server)
            elif ending is Ending.REFUSED:
                metrics.refused(journey.reply.enhanced)
            log.later(_ENDINGS[ending], _journey_facts, journey, _octets(journey.envelope))
            if log.is_detailed() and journey.reply.is_success:
                log.accepted(**_accepted_facts(journey))
        except Exception:  # whatever it is, the client has its reply
            tell_fault("MessageEvents.submitted")

    def routed(self, id_: str, message_id: str, route: Route, sender: Address | None) -> None:
        """A message has its route for the attempt that follows; `sender` is the envelope sender that leaves.

        For who has asked `log.is_detailed`.
        """
        log.routed(id=id_, message_id=message_id or None, **_route_facts(route, sender), why=route.reason or None)

    @guards_itself
    def attempted(self, tried: Tried, outcome: Outcome, clock: Callable[[], datetime]) -> None:
        """An attempt ended now, well or not."""
        try:
            failure = outcome.first_failure
            self.metrics.attempted(failure.meaning if failure else "")
            if failure is None:
                self.metrics.protected_upstream(outcome.tls.version if outcome.tls else "")
            if log.is_detailed():
                log.attempted(**_attempt_facts(tried, outcome, clock()))
        except Exception:  # what is told beside the mail changes nothing about it (relay.system.fault_barrier)
            tell_fault("MessageEvents.attempted")

    @guards_itself
    def settled(self, message: StoredMessage, attempt: Attempt | None, now: datetime, reports: int) -> None:
        """It is on disk how a message from the queue stands after an attempt; `reports` of it go to its sender."""
        try:
            seconds = (now - message.created).total_seconds()
            server = attempt.server if attempt else ""
            if message.state == State.DELIVERED:
                self.metrics.delivered(server, seconds)
            elif message.state == State.FAILED:
                self.metrics.failed(server)
            event = _STATES.get(message.state) or log.deferred
            log.later(event, _settled_facts, (message, attempt, seconds, reports), _octets(message.envelope))
        except Exception:  # what is told beside the mail changes nothing about it (relay.system.fault_barrier)
            tell_fault("MessageEvents.settled")

    def held(self, row: HoldRow) -> None:
        """An account, or one of its addresses, is held; told again when a probe was refused."""
        if not row.probes:
            self.metrics.held(row.meaning)
        log.held(
            server=row.server,
            account=f"{row.server}/{row.username}",
            address=row.address or None,
            meaning=row.meaning,
            reason=row.reason,
            since=row.since.isoformat(),
            until=row.until.isoformat() if row.until else None,
            next_probe=row.next_probe.isoformat() if row.next_probe else None,
        )

    def waiting_held(self, account: Account, hold: HoldRow, messages: int) -> None:
        """Messages that were due wait for a held account instead."""
        if messages:
            log.held(server=account.server, account=str(account), messages=messages, reason=hold.reason)

    def overtaken(self, id_: str, *, is_sent: bool) -> None:
        """Another node took over a message that was under way here; `is_sent`: a server may have it from us."""
        self.metrics.overtaken(is_sent=is_sent)
        log.overtaken(id=id_, sent=is_sent)

    def paced(self, server: str) -> None:
        """A client's message cannot leave now: its account has used up a limit. Its journey says which."""
        self.metrics.paced(server)

    def away(self, server: Server, why: str) -> None:
        """A server with a backup cannot be reached, and that takes over; `why` "": it is back."""
        if why:
            log.warned(
                "the server cannot be reached; its backup takes over",
                server=server.name,
                backup=server.backup,
                reason=why,
            )
        else:
            log.changed(what="server", state="it is reached again, and has its mail from now on", server=server.name)

    def slowed(self, account: Account, reason: str, until: datetime) -> None:
        """A server asked for a slower pace: an account makes a pause."""
        log.warned(
            "the server asks for a slower pace; the account makes a pause",
            server=account.server,
            account=str(account),
            reason=reason,
            until=until.isoformat(),
        )


def _journey_facts(journey: Journey) -> dict[str, Any]:
    route = journey.route
    return {
        "id": journey.arrival.id,
        "message_id": journey.message_id or None,
        "client": journey.client.name,
        **_envelope_facts(journey.envelope),
        "size": journey.size,
        **(_route_facts(route, journey.sender) if route else {}),
        "reply": str(journey.reply),
        "upstream": str(journey.upstream) if journey.upstream else None,
        "phase": journey.phase or None,
        "tls": journey.tls or None,
        "detail": journey.detail or None,
        "seconds": round(journey.seconds, 3),
    }


def _accepted_facts(journey: Journey) -> dict[str, Any]:
    return {
        "id": journey.arrival.id,
        "message_id": journey.message_id or None,
        "client": journey.client.name,
        "peer": journey.client.peer,
        "protocol": journey.arrival.protocol,
        **(_route_facts(journey.route, journey.sender) if journey.route else {}),
        "reply": str(journey.reply),
        "seconds": round(journey.seconds, 3),
    }


def _attempt_facts(tried: Tried, outcome: Outcome, now: datetime) -> dict[str, Any]:
    message, attempt, failure = tried.message, tried.attempt, outcome.first_failure
    return {
        "id": message.id,
        "message_id": message.message_id or None,
        "profile": message.profile,
        "server": attempt.server,
        "account": f"{attempt.server}/{attempt.username}",
        "host": outcome.host or None,
        "number": attempt.number,
        "upstream": str(outcome.failure.reply if outcome.failure else outcome.accepted),
        "meaning": str(failure.meaning) if failure else None,
        "phase": str(failure.phase) if failure else None,
        "tls": outcome.tls.version if outcome.tls else None,
        "detail": failure.detail or None if failure else None,
        "seconds": round((now - attempt.started).total_seconds(), 3),
    }


def _settled_facts(settled: tuple[StoredMessage, Attempt | None, float, int]) -> dict[str, Any]:
    message, attempt, seconds, reports = settled
    return {
        "id": message.id,
        "message_id": message.message_id or None,
        "client": message.client.name,
        **_envelope_facts(message.envelope),
        "size": message.size,
        "profile": message.profile,
        "server": attempt.server or None if attempt else None,
        "account": f"{attempt.server}/{attempt.username}" if attempt else message.held_by,
        "state": message.state,
        "upstream": message.reply or None,
        "reason": message.reason or None,
        "attempts": message.attempts,
        "next_attempt": message.next_attempt.isoformat() if message.next_attempt else None,
        "reports": reports or None,
        "seconds": round(seconds, 3),
    }


def _octets(envelope: Envelope) -> int:
    """Return how much memory a message takes until its line is written."""
    return _OCTETS + _RECIPIENT_OCTETS * len(envelope.recipients)


def _envelope_facts(envelope: Envelope) -> dict[str, Any]:
    return {
        "sender": str(envelope.sender or "<>"),
        "recipients": [str(recipient.address) for recipient in envelope.recipients],
    }


def _route_facts(route: Route, sender: Address | None) -> dict[str, Any]:
    return {
        "profile": route.profile.name if route.profile else None,
        "server": route.server.name,
        "account": str(route.account),
        "identity": str(sender or "<>"),
    }
