"""How an agent's mail leaves, as its own page shows it: where, as whom, by which secret, and what is missing."""

from typing import Any

from relay.control.context import Parts, find_profile
from relay.control.entries.records import needs_own_secret
from relay.control.messages.records import rfc3339
from relay.control.operation import Access, Operation
from relay.directory.model import Account, Auth, Profile, ProfileKind, Server
from relay.mail.address import Address
from relay.secrets.secret import SecretRef, secret_ref


class Sending:
    """`agent.sending`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"agent.sending": Operation(self.sending, access=Access.OWN_READ)}

    async def sending(self, *, name: str) -> dict[str, Any]:
        """Return how an agent sends.

        `secret` is what its own account logs in with: "password", "authorization" (OAuth), or "" where it needs none of
        its own. `source` is where a password comes from that the vault does not hold. `token` is how the tokens are.
        """
        profile = find_profile(self._parts, ProfileKind.AGENT, name)
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
