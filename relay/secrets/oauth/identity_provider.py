"""Identity providers: where each gives tokens, what is asked of it there, and what it answers, as values.

The endpoints are data, each row with its source.

Microsoft: learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow, v2-oauth2-device-code and
v2-oauth2-client-creds-grant-flow for the endpoints;
learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth
for the scopes of SMTP, IMAP and POP3. Only offline_access gives a refresh token; openid and profile tell whose login it
was.

Google: developers.google.com/identity/protocols/oauth2/native-app for the endpoints and access_type,
developers.google.com/gmail/imap/xoauth2-protocol for the scope. prompt=consent gives a refresh token each time,
not the first time alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol

from relay.directory.model import Kind
from relay.directory.tables import OAuthClient
from relay.secrets.sources import SecretUnavailable


class TokenRefused(SecretUnavailable):
    """The provider gives no token, and asking again does not help. The message has its words, and no secret."""


class StillWaiting(Exception):
    """The person has not answered yet. `slow_down`: ask less often from now on (RFC 8628 section 3.5)."""

    def __init__(self, *, slow_down: bool) -> None:
        super().__init__("the person has not answered yet")
        self.slow_down = slow_down


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a token endpoint gave (RFC 6749 section 5.1). `seconds` is how long the access token is good for.

    `refresh_token` is "" where none came, and then an earlier one stays good. `who` is the login that the provider
    names, "" where it names none.
    """

    access_token: str = field(repr=False)
    refresh_token: str = field(default="", repr=False)
    seconds: int
    scope: str = ""
    who: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode:
    """What a person does at another machine (RFC 8628 section 3.2): type `user_code` at `url`, within `seconds`.

    We ask with `device_code` each `interval` seconds whether it is done.
    """

    device_code: str = field(repr=False)
    user_code: str
    url: str
    seconds: int
    interval: int


class IdentityProvider(Protocol):
    """Asks identity providers (`relay.secrets.oauth.requests`). `secret` is the client's, "" for one without.

    Each raises TokenRefused, or SecretDelayed where asking again may help.
    """

    def authorization_url(
        self, client: OAuthClient, username: str, state: str, verifier: str, redirect: str = ""
    ) -> str:
        """Return where a person allows us to send as `username` (RFC 6749 section 4.1.1, with PKCE: RFC 7636).

        The browser ends at `redirect`; "" is the address that nobody answers, to be pasted from the address line.
        """

    async def renew(self, client: OAuthClient, secret: str, refresh_token: str) -> Grant:
        """Return new tokens for a refresh token (RFC 6749 section 6)."""

    async def as_itself(self, client: OAuthClient, secret: str, username: str) -> Grant:
        """Return a token for the client itself (RFC 6749 section 4.4).

        With a key it signs for itself (RFC 7523): instead of telling a secret, or to act for `username`.
        """

    async def redeem(self, client: OAuthClient, secret: str, code: str, verifier: str, redirect: str = "") -> Grant:
        """Return the tokens for the code that a browser brought to `redirect` (RFC 6749 section 4.1.3, RFC 7636)."""

    async def begin_device(self, client: OAuthClient, secret: str) -> DeviceCode:
        """Return a code for a person to type elsewhere (RFC 8628 section 3.1)."""

    async def redeem_device(self, client: OAuthClient, secret: str, device_code: str) -> Grant:
        """Return the tokens for a device's code. Raises StillWaiting too."""


# Where the browser is sent with the code, to be pasted from its address line. Both providers take it for apps without
# a web server of their own (RFC 8252 section 7.3); Microsoft compares it to the letter.
REDIRECT_URL = "http://localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The URLs of a provider and the scope to ask for; "" where there is none. `asked` goes with the first URL."""

    authorize_url: str
    token_url: str
    device_url: str
    scope: str
    asked: Mapping[str, str] = field(default_factory=dict)


_MICROSOFT = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0"
_MICROSOFT_SCOPE = "https://outlook.office.com/SMTP.Send offline_access openid profile"
# Of a mailbox, on the same page; an app that logs in as itself has IMAP.AccessAsApp and POP.AccessAsApp in its own.
_MICROSOFT_MAILBOX: Mapping[str, str] = MappingProxyType(
    {
        "imap": "https://outlook.office.com/IMAP.AccessAsUser.All",
        "pop3": "https://outlook.office.com/POP.AccessAsUser.All",
    }
)
_MICROSOFT_APP_SCOPE = "https://outlook.office365.com/.default"
# learn.microsoft.com/graph/permissions-reference: Mail.Send sends; Mail.ReadWrite looks into Sent Items after a lost
# answer, and writes the drafts of large messages. Offline_access and the others as for SMTP.
_GRAPH_SCOPE = (
    "https://graph.microsoft.com/Mail.Send https://graph.microsoft.com/Mail.ReadWrite offline_access openid profile"
)
_GRAPH_APP_SCOPE = "https://graph.microsoft.com/.default"
# Of a service account: what is granted to it at the Admin console, to the letter
# (developers.google.com/identity/protocols/oauth2/service-account).
_GOOGLE_APP_SCOPE = "https://mail.google.com/"
_GOOGLE = Endpoints(
    authorize_url="https://accounts.google.com/o/oauth2/v2/auth",
    token_url="https://oauth2.googleapis.com/token",  # noqa: S106  no secret, a URL
    device_url="",
    scope="https://mail.google.com/ openid email",
    asked=MappingProxyType({"access_type": "offline", "prompt": "consent"}),
)


def endpoints_of(client: OAuthClient) -> Endpoints:
    """Return where a client asks for its tokens. A scope of its own counts instead of the provider's."""
    endpoints = _of_provider(client)
    return replace(endpoints, scope=client.scope) if client.scope else endpoints


def scope_for(kind: Kind, client: OAuthClient, protocol: str = "") -> str:
    """Return what to ask for on behalf of a server of this kind; "" where the provider's scope holds.

    `protocol` is how a mailbox is read with the same token, "" where none is.
    """
    if client.scope or client.provider != "microsoft":
        return client.scope
    if kind is Kind.MSGRAPH:
        return _GRAPH_APP_SCOPE if client.flow == "client_credentials" else _GRAPH_SCOPE
    asked = _MICROSOFT_MAILBOX.get(protocol)
    return f"{asked} {_MICROSOFT_SCOPE}" if asked and client.flow != "client_credentials" else ""


def may_spend_refresh_tokens(client: OAuthClient) -> bool:
    """Whether a refresh token may be good for one renewal only, so that two who renew with it lose them all.

    Google gives no new one, and Microsoft leaves the one before good
    (learn.microsoft.com/entra/identity-platform/refresh-tokens); a client that logs in as itself has none.
    """
    return client.provider == "custom" and client.flow != "client_credentials"


def _of_provider(client: OAuthClient) -> Endpoints:
    if client.provider == "google":
        return replace(_GOOGLE, scope=_GOOGLE_APP_SCOPE) if client.flow == "client_credentials" else _GOOGLE
    if client.provider == "microsoft":
        base = _MICROSOFT.format(tenant=client.tenant or "common")
        return Endpoints(
            authorize_url=f"{base}/authorize",
            token_url=f"{base}/token",
            device_url=f"{base}/devicecode",
            scope=_MICROSOFT_APP_SCOPE if client.flow == "client_credentials" else _MICROSOFT_SCOPE,
        )
    return Endpoints(
        authorize_url=client.authorize_url, token_url=client.token_url, device_url=client.device_url, scope=client.scope
    )
