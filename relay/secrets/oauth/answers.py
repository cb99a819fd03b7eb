"""What an identity provider answers, as values: tokens, a device's code, a refusal."""

from dataclasses import dataclass, field
from typing import Protocol

from relay.directory.model import OAuthClient
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


class Provider(Protocol):
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

    async def as_itself(self, client: OAuthClient, secret: str) -> Grant:
        """Return a token for the client itself (RFC 6749 section 4.4)."""

    async def redeem(self, client: OAuthClient, secret: str, code: str, verifier: str, redirect: str = "") -> Grant:
        """Return the tokens for the code that a browser brought to `redirect` (RFC 6749 section 4.1.3, RFC 7636)."""

    async def begin_device(self, client: OAuthClient, secret: str) -> DeviceCode:
        """Return a code for a person to type elsewhere (RFC 8628 section 3.1)."""

    async def redeem_device(self, client: OAuthClient, secret: str, device_code: str) -> Grant:
        """Return the tokens for a device's code. Raises StillWaiting too."""
