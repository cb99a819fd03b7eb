"""Explains how mail of a sender would leave, without sending any."""

from typing import Any

from relay.config.schema import no_such
from relay.control.context import Parts, read_address
from relay.control.operation import Operation
from relay.control.refused import Refused
from relay.delivery import replies
from relay.directory.client import Client, bounce_routes, is_bounce, login_of, standing
from relay.directory.routing import Route, Routing
from relay.mail.address import Address
from relay.mail.content import ContentRefused
from relay.mail.header import Field, Header
from relay.mail.identity import Alignment, Mismatch, align, from_address
from relay.secrets.secret import secret_ref

_LOCAL = "127.0.0.1"


class Routes:
    """What can be asked about routes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"route": Operation(self.route)}

    async def route(
        self, *, sender: str, from_header: str | None = None, login: str | None = None, to: str | None = None
    ) -> dict[str, Any]:
        """Return the route of a sender ("" or "<>": the null sender) with a From header, for a client.

        `to` is the recipient, by which the bounce of a mail server leaves.

        Raises Refused with what a client would be told, where the mail would be refused.
        """
        routing = self._parts.directory.routing()
        address = _address(sender)
        header = _header(from_header, address)
        client = self._client(routing, login)
        recipient = read_address(to, "to") if to else None
        route = _route(routing, client, address) if address else _null_route(routing, client, header, recipient)
        alignment = Alignment(
            identity=route.identity,
            reply_to=route.reply_to,
            sender=address,
            mismatch=Mismatch(self._parts.settings.policy.from_mismatch),
            standing=standing(routing, client, route.profile, is_null=address is None),
        )
        try:
            aligned, _ = align(header, alignment)
        except ContentRefused as error:
            raise Refused(error.reply.text) from None
        return self._explanation(route, aligned)

    def _client(self, routing: Routing, login: str | None) -> Client:
        if login is None:
            listener = self._parts.settings.listeners[0]
            return Client(_LOCAL, _LOCAL, listener.may_send_as, is_trusted=True, bounces=listener.bounces)
        found = login_of(routing, login)
        if found is None:
            raise Refused(no_such("login", login, routing.logins.names), key="login")
        return Client(login, _LOCAL, (), is_trusted=False).logged_in(found)

    def _explanation(self, route: Route, aligned: Header) -> dict[str, Any]:
        reply_to = aligned.get_all("reply-to")
        ref = secret_ref(route.server, route.profile, override=route.override)
        lack = ""
        if ref is not None and self._parts.secrets.is_set_for_another(ref):
            lack = f"; it needs a password for {route.server.name}: the one that is set is for another server or host"
        elif ref is not None and not self._parts.secrets.is_set(ref):
            lack = "; no password is set for it"
        return {
            "profile": route.profile.name if route.profile else None,
            "server": route.server.name,
            "account": str(route.account),
            "identity": str(route.identity),
            "override": route.override,
            "from": aligned.get_all("from")[0].text,
            "reply_to": reply_to[0].text if reply_to else None,
            "script": route.script.name if route.script else None,
            "reason": route.reason + lack,
        }


def _address(sender: str) -> Address | None:
    bare = sender.strip().removeprefix("<").removesuffix(">")
    return read_address(bare, "sender") if bare else None


def _header(from_header: str | None, sender: Address | None) -> Header:
    value = from_header if from_header is not None else str(sender or "")
    return Header((Field.make("From", " ".join(value.split())),)) if value else Header()


def _null_route(routing: Routing, client: Client, header: Header, recipient: Address | None) -> Route:
    author = from_address(header)
    if author is None:
        raise Refused("mail with the null sender is routed by its From header; give one with --from")
    if not is_bounce(routing, client, author):
        return _route(routing, client, author)
    route = next(bounce_routes(routing, client, (recipient,) if recipient else ()), None)
    if route is None:
        raise Refused(replies.no_profile(author).text)
    return route


def _route(routing: Routing, client: Client, sender: Address) -> Route:
    route = routing.route(sender)
    if route is None:
        raise Refused(replies.no_profile(sender).text)
    is_allowed = client.allows(route.profile) if route.profile else client.allows_anyone
    if not is_allowed:
        raise Refused(replies.not_yours(sender, client.name).text)
    return route
