"""A parcel: one message made ready for one attempt, with the server, account, secret and identity as they are now.

What is stored is the message as it came; everything else is resolved and made anew for every attempt (DESIGN
section 2), so that a new password, server or default frees what waits.
"""

from dataclasses import dataclass
from typing import Protocol

from relay.delivery.office import Refused
from relay.directory.client import Client, standing
from relay.directory.routing import Route, Routing
from relay.mail.address import Address
from relay.mail.content import Content, ContentRefused
from relay.mail.envelope import Envelope
from relay.mail.header import Header, KeptChanges, kept
from relay.mail.identity import Alignment, Mismatch
from relay.mail.outgoing import Outgoing, compose
from relay.mail.trace import Arrival
from relay.secrets.secret import Secret
from relay.upstream.transfer import RequireTls, Transfer


@dataclass(frozen=True, slots=True)
class Handed:
    """A message as it came: who handed it over, how, and its envelope, which may be for some of its recipients."""

    client: Client
    arrival: Arrival
    envelope: Envelope
    content: Content


class Rules(Protocol):
    """By what a parcel is made (an Office has it): the directory as it is now, and the policy about From."""

    @property
    def mismatch(self) -> Mismatch:
        """What `[policy] from_mismatch` says."""

    def routing(self) -> Routing:
        """Return the routing of the directory as it is now."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What leaves, by which route, and with which Message-ID."""

    route: Route
    outgoing: Outgoing
    sender: Address | None
    message_id: str

    @property
    def changes(self) -> KeptChanges:
        """What is changed in the header, as it is kept and shown."""
        return kept(self.outgoing.changes)

    def transfer(self, handed: Handed, secret: Secret | None, *, all_or_none: bool = False) -> Transfer:
        """Return what the upstream is given."""
        envelope = handed.envelope
        return Transfer(
            server=self.route.server,
            account=self.route.account,
            secret=secret,
            sender=self.sender,
            recipients=envelope.recipients,
            content=self.outgoing.content,
            smtputf8=envelope.smtputf8,
            all_or_none=all_or_none,
            ret=envelope.ret,
            envid=envelope.envid,
            require_tls=_require_tls(envelope),
        )


def header_of(content: Content) -> Header:
    """Return the fields of a message. Raises Refused for a header block that can be read in two ways."""
    try:
        return Header.parse(content.header)
    except ContentRefused as refusal:
        raise Refused(refusal.reply) from None


def pinned_route(routing: Routing, name: str | None, sender: Address | None) -> Route | None:
    """Return the route of the profile that a message is pinned to (None: nobody's); None where that is gone."""
    if name is None:
        return routing.default_route()
    profile = routing.directory.profile(name)
    owner = routing.owner(sender) if sender else None
    is_theirs = owner is not None and profile is not None and owner.profile.name == profile.name
    used = (owner.address_used, owner.tag) if owner and is_theirs else (None, "")
    return routing.route_of(profile, *used) if profile else None


def pack(rules: Rules, handed: Handed, header: Header, route: Route) -> Parcel:
    """Return the parcel of a message for a route. Raises Refused: a loop, or a From that may not be."""
    script = route.script
    try:
        outgoing = compose(
            handed.content,
            header,
            arrival=handed.arrival,
            recipients=handed.envelope.recipients,
            alignment=Alignment(
                identity=route.identity,
                reply_to=route.reply_to,
                sender=handed.envelope.sender,
                mismatch=rules.mismatch,
                standing=standing(
                    rules.routing(), handed.client, route.profile, is_null=handed.envelope.sender is None
                ),
            ),
            script=(script.set_headers, script.remove_headers) if script else None,
        )
    except ContentRefused as refusal:
        raise Refused(refusal.reply) from None
    is_null = handed.envelope.sender is None and route.server.null_sender
    return Parcel(route, outgoing, None if is_null else route.identity, _message_id(header, outgoing))


def _require_tls(envelope: Envelope) -> RequireTls:
    """Return what is demanded of the way. A bounce is not lost for it (RFC 8689 section 5), also where it leaves from
    the identity because its server takes no null sender."""
    if not envelope.require_tls:
        return RequireTls.NO
    return RequireTls.WHERE_OFFERED if envelope.sender is None else RequireTls.ALWAYS


def _message_id(header: Header, outgoing: Outgoing) -> str:
    """Return the Message-ID that leaves: the one we made, or the one that came."""
    made = [change.after for change in outgoing.changes if change.field == "Message-ID"]
    found = made or [item.text for item in header.get_all("message-id")]
    return found[0] if found else ""
