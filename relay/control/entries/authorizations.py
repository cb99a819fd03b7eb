"""Authorizing an account by OAuth: a person allows it in a browser, here or at another machine, or nobody has to.

`authorize` is a stream: its items tell the person what to do, and the last one what came of it. In the code flow the
browser ends at an address that nobody answers, or, for `back_to` "page", at one of our pages; who asked gives us that
address, and `authorized` takes the code out of it. What belongs together is told back and forth (`state`,
`verifier`), so that nothing is kept in between.
"""

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

from relay import log
from relay.control.audit_log import note_secret
from relay.control.context import ControlContext, find_entry
from relay.control.messages.records import rfc3339
from relay.control.operation import Access, Operation
from relay.control.refused import Refused
from relay.directory.kinds import AGENT, SERVER, EntryKind
from relay.directory.model import Profile, Server
from relay.mail.address import without_case
from relay.mail.reply import clean_text
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.oauth.identity_provider import Grant, StillWaiting
from relay.secrets.secret import SecretRef, TokenRef, client_bound_to, client_owner, token_ref
from relay.secrets.sources import SecretDelayed

Items: TypeAlias = AsyncIterator[dict[str, Any]]

BackTo: TypeAlias = Literal["person", "page"]
"""Where the browser ends: at nothing, so that the person brings the address; or at our page `RETURN_PATH`."""

RETURN_PATH = "/oauth/return"
_SLOWER_SECONDS = 5  # RFC 8628 section 3.5
_LONGEST_WAIT = 3600


class Authorizations:
    """The operations that authorize the accounts of servers, channels or agents."""

    def __init__(self, parts: ControlContext, kind: EntryKind[Server | Profile]) -> None:
        self._parts = parts
        self._kind = kind

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        access = Access.OWN if self._kind is AGENT else Access.ADMIN
        found = {
            f"{self._kind.word}.authorize": Operation(self.authorize, is_stream=True, access=access),
            # No change by itself: while nobody has allowed it yet, nothing is written down.
            f"{self._kind.word}.authorized": Operation(self.authorized, access=access),
        }
        if self._kind is SERVER:
            found["server.client_secret"] = Operation(self.client_secret, is_change=True)
        return found

    def authorize(self, *, name: str, back_to: BackTo = "person") -> Items:
        """Yield {step: "visit", url, …} for a person, and in the end {step: "authorized", account, expires, warning}.

        In the code flow there is no end here: `state` and `verifier` go to `authorized` with the redirected address.
        In the device flow whoever does not wait here gives `device` to `authorized`, now and then.
        """
        ref, token = self._ref(name)
        if token.client.flow == "code":
            return self._code(token, self._redirect(back_to))
        return self._device(ref, token) if token.client.flow == "device" else self._own(ref, token)

    async def authorized(
        self,
        *,
        name: str,
        redirect: str = "",
        state: str = "",
        verifier: str = "",
        device: str = "",
        back_to: BackTo = "person",
    ) -> dict[str, Any]:
        """Take the code out of the address that the browser ended at, and keep the tokens that it stands for.

        With `device`: ask whether somebody has allowed it at another device; {step: "waiting"} where nobody has yet.
        """
        ref, token = self._ref(name)
        if device:
            return await self._redeem_device(ref, token, device)
        code = code_in(redirect, state)
        provider = await self._tokens.provider()
        secret = await self._client_secret(token)
        grant = await provider.redeem(token.client, secret, code, verifier, self._redirect(back_to))
        return await self._keep(ref, token, grant)

    async def _redeem_device(self, ref: SecretRef, token: TokenRef, device: str) -> dict[str, Any]:
        provider = await self._tokens.provider()
        try:
            grant = await provider.redeem_device(token.client, await self._client_secret(token), device)
        except StillWaiting:
            return _told("waiting", token, None, "")
        return await self._keep(ref, token, grant)

    async def client_secret(self, *, name: str, secret: str) -> dict[str, Any]:
        """Set the secret of a server's OAuth client."""
        server = find_entry(self._parts, SERVER, name)
        if server.oauth is None:
            raise Refused(f"server '{name}' has no OAuth client; set its provider and client_id first", key="oauth")
        was_set = self._parts.vault.has(client_owner(name))
        await self._parts.vault.put(client_owner(name), secret, bound_to=client_bound_to(server))
        note_secret("client_secret", was_set=was_set)
        return {"ok": True}

    @property
    def _tokens(self) -> Tokens:
        return self._parts.secrets.tokens

    def _ref(self, name: str) -> tuple[SecretRef, TokenRef]:
        """Return whose tokens are meant. Raises Refused where there are none to be had."""
        owner = find_entry(self._parts, self._kind, name)
        server = owner if isinstance(owner, Server) else self._server_of(owner)
        ref = token_ref(server, owner)
        if ref is None or ref.token is None:
            raise Refused(f"server '{server.name}' has auth = \"{server.auth}\", so there is nothing to authorize")
        if not ref.token.client.client_id:
            raise Refused(
                f"server '{server.name}' has no app at its provider yet; register one there, and set its id with: "
                f"relay server set {server.name} oauth.client_id=ID"
            )
        if not ref.token.username:
            raise Refused(f"server '{name}' has no username, so it has no account to authorize; set username first")
        if ref.source:
            raise Refused(f"'{name}' takes its access token from {ref.source}; set password_from= to authorize it here")
        return ref, ref.token

    def _server_of(self, profile: Profile) -> Server:
        server = self._parts.directory.routing().directory.server_of(profile)
        if server is None:
            raise Refused(f"{self._kind.word} '{profile.name}' has no server yet")
        if not profile.override:
            raise Refused(
                f"{self._kind.word} '{profile.name}' sends with the account of its server; "
                f"authorize that with: relay server authorize {server.name}"
            )
        return server

    def _redirect(self, back_to: BackTo) -> str:
        """Return where the browser ends, as the provider knows it; "" for the address that nobody answers.

        SECURITY: it is one of these two, whatever somebody asks for.
        """
        return self._parts.settings.web.public_url.rstrip("/") + RETURN_PATH if back_to == "page" else ""

    async def _code(self, token: TokenRef, redirect: str) -> Items:
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
        provider = await self._tokens.provider()
        url = provider.authorization_url(token.client, token.username, state, verifier, redirect)
        yield {"step": "visit", "flow": "code", "url": url, "state": state, "verifier": verifier}

    async def _device(self, ref: SecretRef, token: TokenRef) -> Items:
        provider = await self._tokens.provider()
        secret = await self._client_secret(token)
        device = await provider.begin_device(token.client, secret)
        seconds = min(device.seconds, _LONGEST_WAIT)
        interval = device.interval
        yield {
            "step": "visit",
            "flow": "device",
            "url": device.url,
            "code": device.user_code,
            "seconds": seconds,
            "interval": interval,
            "device": device.device_code,
        }
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() + interval < deadline:
            await asyncio.sleep(interval)
            try:
                grant = await provider.redeem_device(token.client, secret, device.device_code)
            except StillWaiting as waiting:
                interval += _SLOWER_SECONDS if waiting.slow_down else 0
                yield {"step": "waiting"}  # who has gone is noticed by it
            except SecretDelayed:
                interval += _SLOWER_SECONDS
                yield {"step": "waiting"}
            else:
                yield await self._keep(ref, token, grant)
                return
        raise Refused(f"nobody allowed it within {seconds // 60} minutes; begin again")

    async def _own(self, ref: SecretRef, token: TokenRef) -> Items:
        """There is nothing for a person to do, but to see that it works."""
        if not self._tokens.is_set(ref):
            raise Refused(
                f"the OAuth client of server '{token.server}' has no secret yet; "
                f"set it with: relay server password {token.server} --client-secret"
            )
        record = await self._tokens.try_out(ref)
        yield _told("authorized", token, record.expires, "")

    async def _keep(self, ref: SecretRef, token: TokenRef, grant: Grant) -> dict[str, Any]:
        was_set = self._tokens.is_set(ref)
        record = await self._tokens.keep(ref, grant)
        note_secret("authorization", was_set=was_set)
        log.changed(what="authorization", account=f"{token.server}/{token.username}")
        return _told("authorized", token, record.expires, _warning(token, grant))

    async def _client_secret(self, token: TokenRef) -> str:
        owner = client_owner(token.server)
        kept = await self._parts.vault.get(owner)
        return kept.value if kept and self._parts.vault.is_for(owner, token.client_bound_to) else ""


def code_in(redirect: str, state: str) -> str:
    """Return the code in the address that a browser was sent to (RFC 6749 section 4.1.2).

    Raises Refused: for an address of another authorization, or with the provider's words where it said no.
    """
    try:
        said = {key: values[0] for key, values in parse_qs(urlsplit(redirect.strip()).query).items()}
    except ValueError:
        said = {}
    if not said.get("code") and not said.get("error"):
        raise Refused("that is not where the browser ended: the address there has code= in it; copy the whole of it")
    if not hmac.compare_digest(said.get("state", "").encode(), state.encode()):
        raise Refused("that address belongs to another authorization (its state differs); begin again")
    if "error" in said:
        words = ": ".join(filter(None, [said["error"], said.get("error_description")]))
        raise Refused(f"the provider did not allow it: {clean_text(words)[:300]}")
    return said["code"]


def _told(step: str, token: TokenRef, expires: datetime | None, warning: str) -> dict[str, Any]:
    account = f"{token.server}/{token.username}"
    return {"step": step, "account": account, "expires": rfc3339(expires), "warning": warning}


def _warning(token: TokenRef, grant: Grant) -> str:
    if grant.who and without_case(grant.who) != without_case(token.username):
        return (
            f"it was {grant.who} who allowed it, and mail logs in as {token.username}; "
            "that works only where the one may send for the other"
        )
    if not grant.refresh_token:
        return "the provider gave nothing to renew it with, so it has to be authorized again when it expires"
    return ""
