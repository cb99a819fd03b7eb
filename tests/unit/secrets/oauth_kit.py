"""A provider that answers as a test says, and references to the tokens of one account."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.directory.model import Auth, Channel, Server
from relay.directory.tables import OAuthClient
from relay.secrets.oauth.identity_provider import DeviceCode, Grant
from relay.secrets.secret import SecretRef, token_ref

USER = "support@acmejets.example"


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class FakeProvider:
    """Counts what it is asked, and numbers what it gives. `error` is raised instead; `gate` is waited for before."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    error: Exception | None = None
    gate: asyncio.Event | None = None
    seconds: int = 3600

    def authorization_url(
        self, client: OAuthClient, username: str, state: str, verifier: str, redirect: str = ""
    ) -> str:
        raise AssertionError("nobody is to be sent there")

    async def renew(self, client: OAuthClient, secret: str, refresh_token: str) -> Grant:
        return await self._give(refresh_token, secret)

    async def as_itself(self, client: OAuthClient, secret: str, username: str) -> Grant:
        return await self._give("", secret)

    async def redeem(self, client: OAuthClient, secret: str, code: str, verifier: str, redirect: str = "") -> Grant:
        return await self._give(code, secret)

    async def begin_device(self, client: OAuthClient, secret: str) -> DeviceCode:
        raise AssertionError("no device is to be asked for")

    async def redeem_device(self, client: OAuthClient, secret: str, device_code: str) -> Grant:
        return await self._give(device_code, secret)

    async def _give(self, told: str, secret: str) -> Grant:
        self.asked.append((told, secret))
        number = len(self.asked)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return grant(number, self.seconds)


def grant(number: int = 0, seconds: int = 3600) -> Grant:
    """Tokens with a number."""
    return Grant(access_token=f"access-{number}", refresh_token=f"refresh-{number}", seconds=seconds)


def ref_to(flow: str = "code", client_id: str = "app", provider: str = "custom", host: str = "h") -> SecretRef:
    """Where the tokens of the channel support are."""
    values: dict[str, Any] = {"provider": provider, "flow": flow, "token_url": "http://127.0.0.1:1/token"}
    server = Server(
        name="acme", host=host, auth=Auth.OAUTH2, username=USER, oauth=OAuthClient(client_id=client_id, **values)
    )
    found = token_ref(server, Channel(name="support", address=USER, override=True))
    assert found is not None
    return found
