"""How mail leaves: the route of a sender, and how an agent's own account stands. Nothing is sent."""

from typing import Any

from relay.config.schema import no_such
from relay.control.context import ControlContext, find_entry, read_address
from relay.control.entries.records import needs_own_secret
from relay.control.messages.records import rfc3339
from relay.control.operation import Access, Operation
from relay.control.refused import Refused
from relay.delivery import replies
from relay.directory.client import Client, bounce_routes, is_bounce, login_of, ownership
from relay.directory.kinds import AGENT
from relay.directory.model import Account, Auth, Profile, Server
from relay.directory.routing import Route, Routing
from relay.mail.address import Address
from relay.mail.content import ContentRefused
from relay.mail.header import Field, Header
from relay.mail.identity import Alignment, Mismatch, align, from_address
from relay.secrets.secret import SecretRef, secret_ref

_LOCAL = "127.0.0.1"


class Routes:
    """What can be asked about routes."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "route": Operation(self.route),
            "agent.sending": Operation(self.sending, access=Access.OWN_READ),
        }

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
            ownership=ownership(routing, client, route.profile, is_null=address is None),
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

    async def sending(self, *, name: str) -> dict[str, Any]:
        """Return how an agent sends.

        `secret` is what its own account logs in with: "password", "authorization" (OAuth), or "" where it needs none of
        its own. `source` is where a password comes from that the vault does not hold. `token` is how the tokens are.
        """
        profile = find_entry(self._parts, AGENT, name)
        routing = self._parts.directory.routing()
        server = routing.directory.server_of(profile)
        account = routing.directory.account_of(profile)
        route = routing.route_of(profile)
        ref = secret_ref(server, profile, override=True) if server and needs_own_secret(profile, server) else None
        return {
            "name": profile.name,
            "full_name": getattr(profile, "full_name", ""),
            "address": profile.address,
            "aliases": list(profile.aliases),
            "server": server.name if server else None,
            "host": server.effective_host if server else "",
            "account": str(account) if account and account.username else None,
            "identity": str(route.identity) if route else None,
            "override": profile.override,
            "secret": _kind(ref, server),
            "flow": ref.token.client.flow if ref and ref.token else "",
            "source": ref.source if ref else "",
            "is_set": ref is None or self._parts.secrets.is_set(ref),
            "token": await self._token(ref),
            "hold": await self._hold(profile, account),
        }

    async def _token(self, ref: SecretRef | None) -> dict[str, Any] | None:
        if ref is None or ref.token is None or ref.source:
            return None
        state = await self._parts.secrets.tokens.state(ref)
        return {
            "state": state.state,
            "expires": rfc3339(state.expires),
            "refreshed": rfc3339(state.refreshed),
            "error": state.error,
        }

    async def _hold(self, profile: Profile, account: Account | None) -> dict[str, Any] | None:
        """Return since when and why the own account is held; None where it is not, or where there is none."""
        held = {"", Address.parse(profile.address).key}  # a hold has the address as it compares
        for hold in await self._parts.queue.holds() if profile.override else ():
            if Account(hold.server, hold.username) == account and hold.address in held:
                return {"since": rfc3339(hold.since), "reason": hold.reason, "means": hold.meaning}
        return None


def _kind(ref: SecretRef | None, server: Server | None) -> str:
    if ref is None or server is None:
        return ""
    return "authorization" if server.auth is Auth.OAUTH2 else "password"


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
