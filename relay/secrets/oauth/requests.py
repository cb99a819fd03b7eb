"""The requests to identity providers, by Authlib over HTTPS, behind the port `identity_provider.IdentityProvider`.

Imported where the first token is asked for: it takes 0.3 s and 26 MB, and most relays need no token.

SECURITY: certificates are checked against the system's authorities (and SSL_CERT_FILE), no redirect is followed, and
what a provider says is cleaned of everything secret that we told it before anybody sees it. Anything may stand in the
answer of a token endpoint (RFC 6749 section 5.1), and only good tokens count.
"""

import asyncio
import json
import re
import ssl
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from relay.directory.tables import OAuthClient
from relay.mail.reply import clean_text
from relay.secrets.oauth.client_key import OwnKey, own_key
from relay.secrets.oauth.identity_provider import (
    REDIRECT_URL,
    DeviceCode,
    Endpoints,
    Grant,
    StillWaiting,
    TokenRefused,
    endpoints_of,
)
from relay.secrets.sources import SecretDelayed

SECONDS = 20.0
_DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
_MOST_WORDS = 400
# RFC 6749 section 4.1.2.1 names the first two. They tell of the provider's state, not of ours.
_PASSING = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
_WAITING = frozenset({"authorization_pending", "slow_down"})
_TOO_OFTEN = frozenset({408, 425, 429})
_DEVICE_SECONDS = 900
_DEVICE_INTERVAL = 5


class TokenRequests:
    """Asks identity providers. Each method says what the port says."""

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None

    def authorization_url(
        self, client: OAuthClient, username: str, state: str, verifier: str, redirect: str = ""
    ) -> str:
        """Return where a person allows us to send as `username`."""
        endpoints = endpoints_of(client)
        url = prepare_grant_uri(
            endpoints.authorize_url,
            client_id=client.client_id,
            response_type="code",
            redirect_uri=redirect or REDIRECT_URL,
            scope=endpoints.scope or None,
            state=state,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
            login_hint=username,
            **endpoints.asked,
        )
        return str(url)

    async def renew(self, client: OAuthClient, secret: str, refresh_token: str) -> Grant:
        """Return new tokens for a refresh token."""
        return await self._token(client, secret, "refresh_token", {"refresh_token": refresh_token})

    async def as_itself(self, client: OAuthClient, secret: str, username: str) -> Grant:
        """Return a token for the client itself."""
        endpoints = endpoints_of(client)
        if client.key_file:
            return await self._by_key(client, endpoints, await own_key(client.key_file), username)
        scope = endpoints.scope
        return await self._token(client, secret, "client_credentials", {"scope": scope} if scope else {})

    async def redeem(self, client: OAuthClient, secret: str, code: str, verifier: str, redirect: str = "") -> Grant:
        """Return the tokens for the code that a browser brought back."""
        told = {"code": code, "code_verifier": verifier, "redirect_uri": redirect or REDIRECT_URL}
        return await self._token(client, secret, "authorization_code", told)

    async def begin_device(self, client: OAuthClient, secret: str) -> DeviceCode:
        """Return a code for a person to type elsewhere."""
        endpoints = endpoints_of(client)
        async with self._asking(client, secret, endpoints.device_url, ()) as session:
            response = await session.post(
                endpoints.device_url,
                data={"scope": endpoints.scope} if endpoints.scope else {},
                auth=session.client_auth(session.token_endpoint_auth_method),
                headers={"Accept": "application/json"},
            )
            return _device_code(session.parse_response_token(_checked(response)))

    async def redeem_device(self, client: OAuthClient, secret: str, device_code: str) -> Grant:
        """Return the tokens for a device's code."""
        return await self._token(client, secret, _DEVICE, {"device_code": device_code})

    async def _token(self, client: OAuthClient, secret: str, grant_type: str, told: Mapping[str, str]) -> Grant:
        url = endpoints_of(client).token_url
        async with self._asking(client, secret, url, told.values()) as session:
            return grant_of(await session.fetch_token(url, grant_type=grant_type, **told))

    async def _by_key(self, client: OAuthClient, endpoints: Endpoints, key: OwnKey, username: str) -> Grant:
        """Return a token for what a key has signed (RFC 7523 sections 2.1 and 2.2)."""
        url, scope = endpoints.token_url, endpoints.scope
        told = key.told(client.client_id, url, scope, username)
        signed = told["assertion" if key.is_account else "client_assertion"]
        async with self._asking(client, "", url, [signed]) as session:
            headers = {"Accept": "application/json"}
            response = await session.request("POST", url, withhold_token=True, data=told, headers=headers)
            return grant_of(session.parse_response_token(_checked(response)))

    @asynccontextmanager
    async def _asking(self, client: OAuthClient, secret: str, url: str, told: Any) -> AsyncIterator[Any]:
        """Give an Authlib session, and turn all that goes wrong in it into our own errors, without any secret."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        secrets = [secret, *told]
        try:
            async with asyncio.timeout(SECONDS), _session(client, secret, self._tls) as session:
                yield session
        # From None: these exceptions know the request, and with it what we told.
        except AuthlibBaseError as error:
            raise _refusal(error, secrets) from None
        except httpx2.HTTPStatusError as error:
            raise _of_status(error.response.status_code, url) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
            words = _masked(str(error), secrets) or type(error).__name__
            raise SecretDelayed(f"the identity provider {_host(url)} does not answer: {words}") from None
        except ValueError:
            raise SecretDelayed(f"the identity provider {_host(url)} did not answer as a token endpoint does") from None


def _session(client: OAuthClient, secret: str, tls: ssl.SSLContext) -> Any:
    # Both providers document the secret in the body, and servers of one's own take it there too. Basic would want it
    # encoded twice (RFC 6749 section 2.3.1), which servers read differently.
    session = AsyncOAuth2Client(
        client.client_id,
        secret or None,
        token_endpoint_auth_method="client_secret_post" if secret else "none",
        verify=tls,
        timeout=SECONDS,
    )
    session.register_compliance_hook("access_token_response", _checked)
    return session


def _checked(response: Any) -> Any:
    """Return a response that may be read as an answer; a busy provider's is none, whatever it says."""
    if response.status_code in _TOO_OFTEN or response.status_code >= 500:
        raise _of_status(response.status_code, str(response.request.url))
    return response


def _of_status(status: int, url: str) -> SecretDelayed | TokenRefused:
    words = f"the identity provider {_host(url)} answers with HTTP status {status}"
    is_refusal = 400 <= status < 500 and status not in _TOO_OFTEN
    return TokenRefused(words) if is_refusal else SecretDelayed(words)


def _refusal(error: AuthlibBaseError, secrets: list[str]) -> Exception:
    name = str(error.error or "")
    if name in _WAITING:
        return StillWaiting(slow_down=name == "slow_down")
    words = _masked(f"{name}: {error.description}" if error.description else name, secrets)
    return SecretDelayed(words) if name in _PASSING else TokenRefused(words)


def _masked(text: str, secrets: list[str]) -> str:
    for secret in filter(None, secrets):
        for spelling in (secret, quote(secret, safe="")):
            text = text.replace(spelling, "***")
    return clean_text(text)[:_MOST_WORDS]


def _device_code(said: Mapping[str, Any]) -> DeviceCode:
    """Return a device's code. Raises ValueError where the answer is none."""
    texts = [
        said.get("device_code"),
        said.get("user_code"),
        said.get("verification_uri") or said.get("verification_url"),
    ]
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError("no device code")
    device_code, user_code, url = map(str, texts)
    return DeviceCode(
        device_code=device_code,
        user_code=clean_text(user_code),
        url=clean_text(url),
        seconds=int(said.get("expires_in") or _DEVICE_SECONDS),
        interval=max(1, int(said.get("interval") or _DEVICE_INTERVAL)),
    )


def _host(url: str) -> str:
    return httpx2.URL(url).host


# RFC 6749 appendix A.12: visible ASCII. Microsoft's tokens have some 2,000 characters.
_TOKEN = re.compile(r"[\x20-\x7e]{1,65536}")
# Where the provider does not say (RFC 6749 section 5.1 only recommends it): what most of them give.
_USUAL_SECONDS = 3600
_MOST_SECONDS = 366 * 24 * 3600
# The claims by which a provider names a login: OpenID Connect Core section 5.1, and Microsoft's own.
_NAMES = ("preferred_username", "email", "upn")
_MOST_NAME = 320


def grant_of(said: Mapping[str, Any]) -> Grant:
    """Return what a token endpoint gave. Raises ValueError where it is no usable access token."""
    if str(said.get("token_type") or "bearer").lower() != "bearer":
        raise ValueError("no bearer token")
    return Grant(
        access_token=_token(said.get("access_token")),
        refresh_token=_token(said["refresh_token"]) if said.get("refresh_token") else "",
        seconds=_seconds(said.get("expires_in")),
        scope=clean_text(str(said.get("scope") or "")),
        who=_who(said.get("id_token")),
    )


def _token(value: Any) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError("no token")
    return value


def _seconds(value: Any) -> int:
    """Return a lifetime. Microsoft has been seen to write it as text."""
    try:
        seconds = int(value)
    except (TypeError, ValueError):
        return _USUAL_SECONDS
    return min(seconds, _MOST_SECONDS) if seconds > 0 else _USUAL_SECONDS


def _who(id_token: Any) -> str:
    """Return whom an ID token names, "" for nobody.

    Its signature is not looked at: it came from the provider itself over TLS (OpenID Connect Core section 3.1.3.7),
    and serves a warning alone.
    """
    try:
        payload = str(id_token).split(".")[1]
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        named = next((claims[name] for name in _NAMES if isinstance(claims.get(name), str)), "")
    except (IndexError, ValueError, AttributeError, RecursionError):
        return ""
    return clean_text(named)[:_MOST_NAME]
