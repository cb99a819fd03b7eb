"""A message is prepared for one attempt: its route, the header that leaves, and the envelope sender.

What is stored is the message as it was submitted. Everything else is resolved and made anew for every attempt (DESIGN
section 2), so that a new password, server or default frees what waits.
"""

from dataclasses import dataclass
from datetime import datetime

from relay.delivery import replies
from relay.delivery.outcome import State
from relay.directory.client import Client, ownership
from relay.directory.model import Meaning, Server
from relay.directory.routing import Route, Routing
from relay.mail.address import Address
from relay.mail.content import Content, ContentRefused
from relay.mail.encoded_words import decode_words
from relay.mail.envelope import Envelope
from relay.mail.header import Header
from relay.mail.identity import Alignment, Mismatch
from relay.mail.outgoing import Outgoing, compose
from relay.mail.reply import Reply
from relay.mail.trace import Arrival
from relay.secrets.secret import Secret
from relay.store.queue.messages import Attempt, HoldRow, StoredMessage, StoredRecipient
from relay.upstream.outcome import Outcome, Phase
from relay.upstream.transaction import RequireTls, Transfer

_LONGEST_SUBJECT = 200


class Refused(Exception):
    """The message goes no further here. `reply` is for the client, `detail` for the log.

    `meaning` says what it would mean in an upstream's answer, where that is not plain from the reply.
    """

    def __init__(self, reply: Reply, detail: str = "", meaning: Meaning | None = None) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.detail = detail
        self.meaning = meaning


@dataclass(slots=True)
class Submitted:
    """A message as it was submitted: by whom, how, and its envelope, which may be for some of its recipients."""

    client: Client
    arrival: Arrival
    envelope: Envelope
    content: Content


@dataclass(slots=True)
class Prepared:
    """What leaves, and by which route. `sender` None is the null sender."""

    route: Route
    outgoing: Outgoing
    sender: Address | None

    def transfer(
        self, envelope: Envelope, secret: Secret | None, *, all_or_none: bool = False, since: datetime | None = None
    ) -> Transfer:
        """Return what the upstream is given for the recipients of this envelope."""
        route = self.route
        return Transfer(
            server=route.server,
            account=route.account,
            secret=secret,
            sender=self.sender,
            recipients=envelope.recipients,
            content=self.outgoing.content,
            smtputf8=envelope.smtputf8,
            all_or_none=all_or_none,
            ret=envelope.ret,
            envid=envelope.envid,
            require_tls=_require_tls(envelope) if envelope.require_tls else RequireTls.NO,
            since=since,
        )


def header_of(content: Content) -> Header:
    """Return the fields of a message. Raises Refused for a header block that can be read in two ways."""
    try:
        return Header.parse(content.header)
    except ContentRefused as refusal:
        raise Refused(refusal.reply) from None


def at_once(server: Server, recipients: int) -> int:
    """Return how many of the recipients one transaction takes."""
    most = server.recipients_per_message
    return most if most and most < recipients else recipients


def check_number(server: Server, recipients: int) -> None:
    """Refuse for good what never goes in one transaction: where a second fails, the first cannot be taken back.

    Raises Refused.
    """
    most = min((limit for limit in (server.recipients_per_message, server.recipients_per_day) if limit), default=0)
    if most and recipients > most:
        raise Refused(replies.too_many_recipients(recipients, most))


def refused_by(hold: HoldRow, route: Route) -> Refused:
    """Return what a client is told whose account is held."""
    return Refused(replies.of_meaning(Meaning(hold.meaning)), f"{route.account} is held: {hold.reason}")


def pinned_route(routing: Routing, name: str | None, sender: Address | None) -> Route | None:
    """Return the route of the profile that a message is pinned to (None: nobody's); None where that is gone."""
    if name is None:
        return routing.default_route()
    profile = routing.directory.profile(name)
    owner = routing.owner(sender) if sender else None
    is_theirs = owner is not None and profile is not None and owner.profile.name == profile.name
    used = (owner.address_used, owner.tag) if owner and is_theirs else (None, "")
    return routing.route_of(profile, *used) if profile else None


def prepare(submitted: Submitted, header: Header, route: Route, routing: Routing, mismatch: Mismatch) -> Prepared:
    """Prepare a message for a route; `mismatch` is what `[policy] from_mismatch` says.

    Raises Refused: a loop, or a From that may not be.
    """
    script, envelope = route.script, submitted.envelope
    is_null = envelope.sender is None
    try:
        outgoing = compose(
            submitted.content,
            header,
            arrival=submitted.arrival,
            recipients=envelope.recipients,
            alignment=Alignment(
                identity=route.identity,
                reply_to=route.reply_to,
                sender=envelope.sender,
                mismatch=mismatch,
                ownership=ownership(routing, submitted.client, route.profile, is_null=is_null),
            ),
            script=(script.set_headers, script.remove_headers) if script else None,
        )
    except ContentRefused as refusal:
        raise Refused(refusal.reply) from None
    sender = None if is_null and route.server.takes_null_sender else route.identity
    return Prepared(route, outgoing, sender)


def _require_tls(envelope: Envelope) -> RequireTls:
    """Return what REQUIRETLS demands of the way.

    A bounce is not lost for it (RFC 8689 section 5), also where it leaves from the identity because its server takes
    no null sender.
    """
    return RequireTls.WHERE_OFFERED if envelope.sender is None else RequireTls.ALWAYS


@dataclass(slots=True)
class Draft:
    """A submission as the store keeps it, not stored yet: the message as it came, and the facts of its coming.

    `prepared` says its profile, account and Message-ID, `size` how many octets it has.
    `clock_ahead`: by how many seconds the wall clock was ahead of the steady one when it came.
    """

    submitted: Submitted
    header: Header
    prepared: Prepared
    size: int
    clock_ahead: float = 0.0

    def queued(self, now: datetime) -> StoredMessage:
        """Return the message with all copies QUEUED and due now."""
        return self._message(State.QUEUED, self._recipients(State.QUEUED), next_attempt=now)

    def under_way(self, now: datetime) -> StoredMessage:
        """Return the message with all copies SENDING: its first attempt begins now."""
        return self._message(State.SENDING, self._recipients(State.SENDING), next_attempt=now)

    def over(self, state: State, reply: Reply | None, outcome: Outcome, now: datetime) -> StoredMessage:
        """Return the message as it is over after its first attempt, for the history."""
        accepted = str(outcome.accepted or "")
        is_taken = outcome.failure is None and not outcome.refused
        recipients = [
            StoredRecipient(
                number=number,
                recipient=recipient,
                state=str(state),
                reply=accepted if is_taken or (failure := outcome.failure_at(number)) is None else str(failure.reply),
            )
            for number, recipient in enumerate(self.submitted.envelope.recipients)
        ]
        delivered = now if state is State.DELIVERED else None
        said = accepted if reply is outcome.accepted else str(reply or "")
        return self._message(state, tuple(recipients), attempts=1, delivered=delivered, reply=said)

    def first_attempt(self, now: datetime) -> Attempt:
        """Return the attempt that is made while the client waits, and begins now."""
        account = self.prepared.route.account
        return Attempt(
            number=1,
            started=now,
            server=account.server,
            username=account.username,
            phase=str(Phase.RESOLVE),
            changes=self.prepared.outgoing.kept,
        )

    def _recipients(self, state: State) -> tuple[StoredRecipient, ...]:
        return tuple(
            StoredRecipient(number=number, recipient=recipient, state=str(state))
            for number, recipient in enumerate(self.submitted.envelope.recipients)
        )

    def _message(
        self,
        state: State,
        recipients: tuple[StoredRecipient, ...],
        *,
        next_attempt: datetime | None = None,
        attempts: int = 0,
        delivered: datetime | None = None,
        reply: str = "",
    ) -> StoredMessage:
        submitted, route = self.submitted, self.prepared.route
        return StoredMessage(
            id=submitted.arrival.id,
            created=submitted.arrival.received_at,
            profile=route.profile.name if route.profile else None,
            client=submitted.client,
            arrival=submitted.arrival,
            envelope=submitted.envelope,
            recipients=recipients,
            size=self.size,
            message_id=self.prepared.outgoing.message_id,
            subject=_subject(self.header),
            state=str(state),
            next_attempt=next_attempt,
            attempts=attempts,
            server=route.account.server,
            username=route.account.username,
            delivered=delivered,
            reply=reply,
            clock_ahead=self.clock_ahead,
        )


def _subject(header: Header) -> str:
    text = header.text_of("subject")
    return (decode_words(text) if "=?" in text else text)[:_LONGEST_SUBJECT]
